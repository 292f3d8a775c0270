import {
  RUN_DATA,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../kernel/abi.ts';

/** Runs after which mapping stops early, so that a plan's memory does not follow the range. */
export const PLAN_LIMIT = 65536;

/**
 * An ordered list of runs that cover a guest range: what to do to read it, before anything is read.
 * Struct of arrays, reused from chunk to chunk, so mapping allocates nothing.
 */
export class Plan {
  count = 0;
  /** `RUN_*` of `kernel/abi.ts`. */
  kind = new Uint8Array(64);
  /** Index of the layer in the chain that answers; 0 is the image itself. */
  layer = new Uint8Array(64);
  /** First guest byte. */
  guest = new Float64Array(64);
  /** Length in guest bytes. */
  length = new Float64Array(64);
  /** Host offset of the first byte (of a compressed run: of its stream). */
  host = new Float64Array(64);
  /** Compressed: bytes that may belong to the stream. */
  aux = new Float64Array(64);

  /** True when mapping should stop at the next opportunity. */
  get isFull(): boolean {
    return this.count >= PLAN_LIMIT;
  }

  clear(): void {
    this.count = 0;
  }

  /** Appends a run; one that continues the last run in guest and host space is merged with it. */
  push(kind: number, layer: number, guest: number, length: number, host: number, aux = 0): void {
    if (length <= 0) return;
    if (this.#continues(kind, layer, host)) {
      this.length[this.count - 1]! += length;
      return;
    }
    if (this.count === this.kind.length) this.#grow();
    const i = this.count++;
    this.kind[i] = kind;
    this.layer[i] = layer;
    this.guest[i] = guest;
    this.length[i] = length;
    this.host[i] = host;
    this.aux[i] = aux;
  }

  /** Appends run `i` of another plan from guest offset `from` on. */
  pushFrom(other: Plan, i: number, from: number): void {
    const skipped = from - other.guest[i]!;
    const kind = other.kind[i]!;
    const host = other.host[i]! + (hasPlace(kind) ? skipped : 0);
    this.push(kind, other.layer[i]!, from, other.length[i]! - skipped, host, other.aux[i]!);
  }

  copyFrom(other: Plan): void {
    this.clear();
    for (let i = 0; i < other.count; i++) this.pushFrom(other, i, other.guest[i]!);
  }

  #continues(kind: number, layer: number, host: number): boolean {
    const last = this.count - 1;
    if (last < 0 || this.kind[last] !== kind || this.layer[last] !== layer) return false;
    if (hasPlace(kind)) return this.host[last]! + this.length[last]! === host;
    return kind === RUN_UNALLOCATED || kind === RUN_ZERO_PLAIN;
  }

  #grow(): void {
    const capacity = this.kind.length * 2;
    const wider = <T extends { set(from: T): void }>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.kind = wider(new Uint8Array(capacity), this.kind);
    this.layer = wider(new Uint8Array(capacity), this.layer);
    this.guest = wider(new Float64Array(capacity), this.guest);
    this.length = wider(new Float64Array(capacity), this.length);
    this.host = wider(new Float64Array(capacity), this.host);
    this.aux = wider(new Float64Array(capacity), this.aux);
  }
}

/** Kinds whose bytes have a place of their own in the file, used or not. */
export function hasPlace(kind: number): boolean {
  return kind === RUN_DATA || kind === RUN_ZERO_ALLOCATED || kind === RUN_UNALLOCATED_SUBCLUSTER;
}

/** Kinds that the layer below answers. */
export function isUnallocated(kind: number): boolean {
  return kind === RUN_UNALLOCATED || kind === RUN_UNALLOCATED_SUBCLUSTER;
}
