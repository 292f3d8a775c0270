import type { Qcow2Error } from '../errors.ts';
import {
  RUN_DATA,
  RUN_INVALID,
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

  /**
   * Takes guest bytes whose entry breaks a rule: by an error, since nothing may be read there.
   * @throws Qcow2Error what `error` makes
   */
  pushInvalid(_layer: number, _guest: number, _length: number, error: () => Qcow2Error): void {
    throw error();
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
    return kind === RUN_UNALLOCATED || kind === RUN_ZERO_PLAIN || kind === RUN_INVALID;
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

/** A plan for looking at a damaged image: invalid entries are runs of their own, which nobody can read. */
export class SurveyPlan extends Plan {
  /** What is wrong with the first of them; of all plans since this one was made. */
  damage: Qcow2Error | undefined;

  override pushInvalid(
    layer: number,
    guest: number,
    length: number,
    error: () => Qcow2Error,
  ): void {
    this.damage ??= error();
    this.push(RUN_INVALID, layer, guest, length, 0);
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
