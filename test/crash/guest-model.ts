import { contentOf, contentsOf, SECTOR_BYTES } from './hash.ts';

/** What the sectors of a disk may hold at a cut. */
interface Allowed {
  /** What was flushed last. */
  readonly flushed: Float64Array;
  /** What was written since, by sector; each of these is right as well. */
  readonly written: ReadonlyMap<number, readonly number[]>;
}

interface Step {
  /** Events of the log that had begun when this did (a write), or had ended (a flush). */
  readonly position: number;
  /** First sector written to; a flush has none. */
  readonly first?: number;
  readonly contents: Float64Array;
}

/**
 * What a guest may find on its disk after a cut: in each sector what it flushed last, or anything it
 * has written there since. Positions are event numbers of the log.
 */
export class GuestModel {
  /** Bytes of the disk. */
  readonly size: number;
  readonly #initial: Float64Array;
  readonly #steps: Step[] = [];
  readonly #origins = new Map<number, string>([[0, 'zeros']]);
  readonly #allowed = new Map<number, Allowed>();

  constructor(initial: Uint8Array) {
    this.size = initial.length;
    this.#initial = contentsOf(initial);
    this.#name(this.#initial, 0, 'initial contents');
  }

  /** A write begins; it covers whole sectors. */
  write(position: number, offset: number, bytes: Uint8Array): void {
    if (offset % SECTOR_BYTES !== 0) throw new Error(`write at ${offset} splits a sector`);
    const contents = contentsOf(bytes);
    const first = offset / SECTOR_BYTES;
    this.#steps.push({ position, first, contents });
    this.#name(contents, first, `write ${this.#steps.length}`);
  }

  /** Zeros may appear from now on, but need not. */
  zero(position: number, offset: number, length: number): void {
    this.write(position, offset, new Uint8Array(length));
  }

  /** A flush has succeeded: from here on the disk is `disk`, and later writes. */
  flush(position: number, disk: Uint8Array): void {
    const contents = contentsOf(disk);
    this.#steps.push({ position, contents });
    this.#name(contents, 0, `flush ${this.#steps.length}`);
  }

  /** Grows with the steps that hold at a cut. */
  versionOf(cut: number): number {
    let count = 0;
    for (const { position } of this.#steps) if (position <= cut) count++;
    return count;
  }

  /** What is wrong with a disk found after a cut; undefined: nothing. */
  findFault(cut: number, disk: Uint8Array): string | undefined {
    const { flushed, written } = this.#allowedAt(cut);
    for (let sector = 0; sector < disk.length / SECTOR_BYTES; sector++) {
      const start = sector * SECTOR_BYTES;
      const found = contentOf(disk.subarray(start, start + SECTOR_BYTES));
      const wanted = flushed[sector] ?? 0;
      if (found === wanted || written.get(sector)?.includes(found)) continue;
      const may = [wanted, ...(written.get(sector) ?? [])].map((one) => this.#nameOf(one));
      return `guest offset 0x${start.toString(16)} reads ${this.#nameOf(found)}, may read ${may.join(' or ')}`;
    }
    return undefined;
  }

  #allowedAt(cut: number): Allowed {
    const version = this.versionOf(cut);
    let allowed = this.#allowed.get(version);
    if (allowed === undefined) {
      allowed = this.#compute(cut);
      this.#allowed.set(version, allowed);
    }
    return allowed;
  }

  #compute(cut: number): Allowed {
    let flushed = this.#initial;
    const written = new Map<number, number[]>();
    for (const { position, first, contents } of this.#steps) {
      if (position > cut) continue;
      if (first === undefined) {
        flushed = contents;
        written.clear();
        continue;
      }
      for (const [i, content] of contents.entries()) {
        const list = written.get(first + i);
        if (list) list.push(content);
        else written.set(first + i, [content]);
      }
    }
    return { flushed, written };
  }

  #name(contents: Float64Array, first: number, what: string): void {
    for (const [i, content] of contents.entries()) {
      if (this.#origins.has(content)) continue;
      this.#origins.set(content, `${what} to 0x${((first + i) * SECTOR_BYTES).toString(16)}`);
    }
  }

  #nameOf(content: number): string {
    return this.#origins.get(content) ?? 'what was never written';
  }
}
