import { RUN_DATA, RUN_ZERO_ALLOCATED } from '../kernel/abi.ts';
import type { Extent, MaybePromise, Storage } from '../storage/storage.ts';
import type { Layer } from './layer.ts';
import type { Plan } from './plan.ts';

/** The raw format: the file is the disk. Holes of the file read as zeros and are not read. */
export class RawLayer implements Layer {
  readonly format = 'raw';
  readonly storage: Storage;
  readonly dataStorage: Storage;
  readonly virtualSize: number;
  readonly clusterSize = 1;
  /** The extents asked for last, ahead of need: files are walked in order. */
  #window: { start: number; end: number; extents: Extent[] } = { start: 0, end: 0, extents: [] };

  constructor(storage: Storage) {
    this.storage = storage;
    this.dataStorage = storage;
    // A disk has whole sectors; a tail of a sector reads as zeros behind the file's end.
    this.virtualSize = Math.ceil(storage.size / 512) * 512;
  }

  mapRange(start: number, end: number, depth: number, plan: Plan): MaybePromise<number> {
    const fileEnd = Math.min(end, this.storage.size);
    const push = (extents: Extent[]): number => {
      pushExtents(extents, start, fileEnd, depth, plan);
      const tail = Math.max(start, fileEnd);
      plan.push(RUN_ZERO_ALLOCATED, depth, tail, end - tail, tail);
      return end;
    };
    const extents = this.#extents(start, fileEnd);
    return extents instanceof Promise ? extents.then(push) : push(extents);
  }

  #extents(start: number, end: number): MaybePromise<Extent[]> {
    if (start >= end) return [];
    if (!this.storage.extents) return [{ offset: start, length: end - start, data: true }];
    const window = this.#window;
    if (start >= window.start && end <= window.end) return window.extents;
    const keep = (extents: Extent[]): Extent[] => {
      this.#window = { start, end, extents };
      return extents;
    };
    const found = this.storage.extents(start, end - start);
    return found instanceof Promise ? found.then(keep) : keep(found);
  }
}

function pushExtents(extents: Extent[], start: number, end: number, depth: number, plan: Plan) {
  for (const extent of extents) {
    const from = Math.max(extent.offset, start);
    const to = Math.min(extent.offset + extent.length, end);
    if (to <= from) continue;
    if (extent.data) plan.push(RUN_DATA, depth, from, to - from, from);
    else plan.push(RUN_ZERO_ALLOCATED, depth, from, to - from, from);
  }
}
