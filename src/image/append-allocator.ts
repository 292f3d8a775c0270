import type { Geometry } from '../format/geometry.ts';

/** Slots of the allocator's state, which threads may share (doubles, exact to 2^53). */
const NEXT_CLUSTER = 0;
/** Byte behind the last compressed stream; 0 when the next stream starts a cluster. */
const STREAM_END = 1;
/** Streams counted so far in the cluster `STREAM_END` lies in. */
const STREAM_COUNT = 2;
/** L1 index whose L2 table was allocated last, plus 1. */
const TABLE_INDEX = 3;
const TABLE_OFFSET = 4;
export const ALLOCATOR_SLOTS = 5;

/** References a chunk added: `counts[i]` to cluster `first + i`, and `more` to an `open` one below. */
export interface AddedReferences {
  first: number;
  counts: number[];
  /** The cluster earlier streams had left room in, and the streams that came to it. */
  open: number;
  more: number;
}

/**
 * Hands out the host clusters of an image that is written front to back in guest order (format
 * section 16). Pure arithmetic on a small state: with the state shared, each thread allocates for
 * its chunk when its turn comes, and the layout does not depend on how many threads there are.
 */
export class AppendAllocator {
  readonly #state: Float64Array;
  readonly #geometry: Geometry;
  readonly #maxCount: number;
  #added: AddedReferences = { first: 0, counts: [], open: 0, more: 0 };

  constructor(state: Float64Array, geometry: Geometry) {
    this.#state = state;
    this.#geometry = geometry;
    this.#maxCount = 2 ** Math.min(geometry.refcountBits, 53) - 1;
  }

  /** Prepares the state: everything below `headClusters` is in use. */
  static initialise(state: Float64Array, headClusters: number): void {
    state.fill(0);
    state[NEXT_CLUSTER] = headClusters;
  }

  /** Clusters handed out so far, head included. */
  static clusters(state: Float64Array): number {
    return state[NEXT_CLUSTER]!;
  }

  /** Where the file's used bytes end: the last stream's sector, or the last cluster. */
  static end(state: Float64Array, clusterSize: number): number {
    const clusters = state[NEXT_CLUSTER]! * clusterSize;
    const streamEnd = state[STREAM_END]!;
    const inLast = streamEnd > clusters - clusterSize;
    return inLast ? Math.ceil(streamEnd / 512) * 512 : clusters;
  }

  /** Leaves out the clusters before `cluster` that were not handed out: they stay unused. */
  static skipTo(state: Float64Array, cluster: number): void {
    state[NEXT_CLUSTER] = cluster;
  }

  /** Starts collecting the references of a chunk. */
  begin(): void {
    const open = this.#streamCluster() ?? 0;
    this.#added = { first: this.#state[NEXT_CLUSTER]!, counts: [], open, more: 0 };
  }

  /** The references added since `begin`. */
  added(): AddedReferences {
    return this.#added;
  }

  /** Host offset of a new cluster with one reference. */
  cluster(): number {
    let next = this.#state[NEXT_CLUSTER]!;
    if (this.isBlockPlace(next)) {
      this.#count(next, 1);
      next++;
    }
    this.#state[NEXT_CLUSTER] = next + 1;
    this.#count(next, 1);
    return next * this.#geometry.clusterSize;
  }

  /**
   * Host offset of the L2 table for an L1 index; a new cluster when the index differs from the last.
   * Indices must not decrease.
   */
  table(l1Index: number): number {
    const state = this.#state;
    if (state[TABLE_INDEX] !== l1Index + 1) {
      state[TABLE_OFFSET] = this.cluster();
      state[TABLE_INDEX] = l1Index + 1;
    }
    return state[TABLE_OFFSET]!;
  }

  /**
   * Host offset for a compressed stream of `length` bytes (less than a cluster): right behind the
   * last one where the counter allows and the cluster or the one next to it has room.
   */
  stream(length: number): number {
    const { clusterSize } = this.#geometry;
    const state = this.#state;
    let offset = state[STREAM_END]!;
    const open = this.#streamCluster();
    const fits = open !== null && offset + length <= (open + 1) * clusterSize;
    if (
      open === null ||
      state[STREAM_COUNT]! >= this.#maxCount ||
      !(fits || this.#canCross(open))
    ) {
      offset = this.cluster();
      this.#closeStreamAt(offset, length, 1);
      return offset;
    }
    this.#count(open, 1);
    // The sector-rounded range decides what is counted, and sectors do not cross clusters.
    if (fits) this.#closeStreamAt(offset, length, state[STREAM_COUNT]! + 1);
    else {
      this.cluster();
      this.#closeStreamAt(offset, length, 1);
    }
    return offset;
  }

  /** Whether a cluster is that of a refcount block: the first one the block covers. */
  protected isBlockPlace(cluster: number): boolean {
    return cluster % this.#geometry.refcountBlockEntries === 0;
  }

  /** The next stream starts a cluster. */
  protected endStreams(): void {
    this.#state[STREAM_END] = 0;
  }

  #closeStreamAt(offset: number, length: number, count: number): void {
    const end = offset + length;
    const full = end % this.#geometry.clusterSize === 0;
    this.#state[STREAM_END] = full ? 0 : end;
    this.#state[STREAM_COUNT] = count;
  }

  #streamCluster(): number | null {
    const end = this.#state[STREAM_END]!;
    return end === 0 ? null : Math.floor(end / this.#geometry.clusterSize);
  }

  /** Whether the cluster behind `open` is the next one to be handed out, and for data. */
  #canCross(open: number): boolean {
    const next = this.#state[NEXT_CLUSTER]!;
    return next === open + 1 && !this.isBlockPlace(next);
  }

  #count(cluster: number, references: number): void {
    const { first, counts } = this.#added;
    if (cluster < first) this.#added.more += references;
    else if (cluster - first < counts.length) counts[cluster - first]! += references;
    else counts.push(references);
  }
}
