import type { FillReader } from './copy-on-write.ts';
import type { SyncedFile } from './synced-file.ts';
import type { WriteBack } from './write-back.ts';

/** Bytes put together in one buffer, so that they go out in one write; more are not copied. */
const GATHER_BYTES = 1 << 17;

/** A write of guest bytes with what must be filled around them; positions are guest offsets. */
export interface DataWrite {
  /** Host offset of guest offset `base`. */
  host: number;
  base: number;
  /** The bytes themselves, from `from` on. */
  bytes: Uint8Array;
  from: number;
  /** What must be right afterwards: `[fillFrom, fillTo)`. */
  fillFrom: number;
  fillTo: number;
}

/** Writes guest data to its host clusters: one write for each run of them. */
export class GuestData {
  readonly #file: SyncedFile;
  readonly #writeBack: WriteBack;
  readonly #fill: FillReader;
  readonly #isOutside: boolean;
  #gathered = new Uint8Array(0);

  constructor(writeBack: WriteBack, fill: FillReader) {
    this.#file = writeBack.dataFile;
    this.#writeBack = writeBack;
    this.#fill = fill;
    this.#isOutside = writeBack.dataFile !== writeBack.file;
  }

  /** @throws Qcow2Error BAD_ENTRY if it would overwrite metadata, and those of reading and writing */
  async write({ host, base, bytes, from, fillFrom, fillTo }: DataWrite): Promise<void> {
    const to = from + bytes.length;
    const place = (guest: number): number => host + (guest - base);
    const oldEnd = this.#file.size;
    // Behind the file's end there are zeros already.
    const needsHead =
      from > fillFrom && !(await this.#isFresh(place(fillFrom), fillFrom, from, oldEnd));
    const needsTail = fillTo > to && !(await this.#isFresh(place(to), to, fillTo, oldEnd));
    const start = needsHead ? fillFrom : from;
    const end = needsTail ? fillTo : to;
    const overlap = this.#requireNoOverlap(place(start), end - start);
    if (overlap !== undefined) await overlap;
    if (start === from && end === to) {
      const done = this.#file.write(place(from), bytes);
      if (done !== undefined) await done;
    } else if (end - start <= GATHER_BYTES) {
      const gathered = this.#buffer(end - start);
      if (needsHead) await this.#fill.read(start, gathered.subarray(0, from - start));
      gathered.set(bytes, from - start);
      if (needsTail) await this.#fill.read(to, gathered.subarray(to - start));
      await this.#file.write(place(start), gathered);
    } else {
      // All is read first: the host cluster may be the one that is read.
      const around = this.#buffer(from - start + end - to);
      const head = around.subarray(0, from - start);
      const tail = around.subarray(from - start);
      if (needsHead) await this.#fill.read(start, head);
      if (needsTail) await this.#fill.read(to, tail);
      if (needsHead) await this.#file.write(place(start), head);
      await this.#file.write(place(from), bytes);
      if (needsTail) await this.#file.write(place(to), tail);
    }
  }

  /** Makes host bytes zeros: gives their space back where the storage can. */
  async zero(host: number, length: number): Promise<void> {
    const end = Math.min(host + length, this.#file.size);
    if (end <= host) return;
    await this.#requireNoOverlap(host, length);
    await this.#file.zero(host, end - host);
  }

  #requireNoOverlap(host: number, length: number): void | Promise<void> {
    if (this.#isOutside) return undefined;
    return this.#writeBack.requireNoOverlap(host, length, 'guest data');
  }

  async #isFresh(place: number, start: number, end: number, oldEnd: number): Promise<boolean> {
    return place >= oldEnd && (await this.#fill.isZero(start, end));
  }

  #buffer(length: number): Uint8Array {
    if (this.#gathered.length < length) this.#gathered = new Uint8Array(length);
    return this.#gathered.subarray(0, length);
  }
}
