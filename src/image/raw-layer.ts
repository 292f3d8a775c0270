import { RUN_DATA, RUN_ZERO_ALLOCATED } from '../kernel/abi.ts';
import type { Extent, MaybePromise, Storage } from '../storage/storage.ts';
import type { Layer } from './layer.ts';
import type { Plan } from './plan.ts';

/** The raw format: the file is the disk. Holes of the file read as zeros and are not read. */
export class RawLayer implements Layer {
  readonly format = 'raw';
  readonly storage: Storage;
  readonly dataStorage: Storage;
  readonly clusterSize = 1;
  #virtualSize: number;
  /** The extents asked for last, ahead of need: files are walked in order. */
  #window: { start: number; end: number; extents: Extent[] } = { start: 0, end: 0, extents: [] };

  constructor(storage: Storage) {
    this.storage = storage;
    this.dataStorage = storage;
    // A disk has whole sectors; a tail of a sector reads as zeros behind the file's end.
    this.#virtualSize = wholeSectors(storage.size);
  }

  get virtualSize(): number {
    return this.#virtualSize;
  }

  /** The file has another length. */
  resized(): void {
    this.#virtualSize = wholeSectors(this.storage.size);
    this.forget();
  }

  mapRange(start: number, end: number, depth: number, plan: Plan): MaybePromise<number> {
    const fileEnd = Math.min(end, this.storage.size);
    const push = (extents: Extent[]): number => {
      const reached = pushExtents(extents, start, fileEnd, depth, plan);
      if (reached < fileEnd) return reached;
      const tail = Math.max(start, fileEnd);
      plan.push(RUN_ZERO_ALLOCATED, depth, tail, end - tail, tail);
      return end;
    };
    const extents = this.#extents(start, fileEnd);
    return Array.isArray(extents) ? push(extents) : extents.then(push);
  }

  forget(): void {
    this.#window = { start: 0, end: 0, extents: [] };
  }

  /** Extents that cover `start` at least. */
  #extents(start: number, end: number): MaybePromise<Extent[]> {
    if (start >= end) return [];
    if (!this.storage.extents) return [{ offset: start, length: end - start, data: true }];
    const window = this.#window;
    if (start >= window.start && start < window.end) return window.extents;
    const keep = (extents: Extent[]): Extent[] => {
      const last = extents.at(-1);
      const reached = last ? last.offset + last.length : start;
      // A storage that cannot tell is read.
      if (!(reached > start)) return [{ offset: start, length: end - start, data: true }];
      this.#window = { start, end: reached, extents };
      return extents;
    };
    const found = this.storage.extents(start, end - start);
    return Array.isArray(found) ? keep(found) : found.then(keep);
  }
}

/** Bytes rounded up to whole sectors, which every disk has. */
export function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / 512) * 512;
}

/** Pushes the runs of `[start, end)`; returns how far the extents reach, or the plan has room. */
function pushExtents(
  extents: readonly Extent[],
  start: number,
  end: number,
  depth: number,
  plan: Plan,
): number {
  let at = start;
  for (let i = firstBehind(extents, start); i < extents.length && at < end; i++) {
    const { offset, length, data } = extents[i]!;
    // What a storage leaves out may be data.
    const from = Math.min(Math.max(offset, at), end);
    plan.push(RUN_DATA, depth, at, from - at, at);
    const to = Math.max(from, Math.min(offset + length, end));
    plan.push(data ? RUN_DATA : RUN_ZERO_ALLOCATED, depth, from, to - from, from);
    at = to;
    if (plan.isFull) break;
  }
  return at;
}

/** Index of the first extent that ends behind `position`. */
function firstBehind(extents: readonly Extent[], position: number): number {
  let low = 0;
  for (let high = extents.length; low < high; ) {
    const middle = (low + high) >>> 1;
    const { offset, length } = extents[middle]!;
    if (offset + length <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}
