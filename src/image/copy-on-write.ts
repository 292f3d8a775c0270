import type { Geometry } from '../format/geometry.ts';
import {
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../kernel/abi.ts';
import type { Chain } from './backing-chain.ts';
import { ALL_SUBCLUSTERS, type L2Slice } from './l2-slice.ts';
import { Plan } from './plan.ts';

/** A bit for each subcluster from `first` to before `end`. */
export function subclusterMask(first: number, end: number): number {
  const upTo = (n: number): number => (n >= 32 ? ALL_SUBCLUSTERS : 2 ** n - 1);
  return (upTo(end) & ~upTo(first)) >>> 0;
}

/**
 * What a write to a part of a cluster makes of it: the bytes that must be in the host cluster then, of
 * which those outside the write are filled with what the guest reads there now, and the entry's new bits
 * (format sections 7, 9). One object serves all clusters.
 */
export class ClusterChange {
  readonly #geometry: Geometry;
  /** In bytes of the cluster. */
  fillFrom = 0;
  fillTo = 0;
  /** Subclusters stored, and those that read as zeros, afterwards. */
  allocated = 0;
  zeros = 0;

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
  }

  /**
   * Works out the change of entry `i` by a write of bytes `[from, to)` of its cluster.
   * @param inPlace the entry's host cluster is written to; else a new one
   */
  plan(slice: L2Slice, i: number, from: number, to: number, inPlace: boolean): void {
    this.fillFrom = from;
    this.fillTo = to;
    const { clusterSize, subclusterSize, extendedL2 } = this.#geometry;
    const isWhole = !extendedL2 || slice.isCompressed(i);
    const stored = slice.isCompressed(i) ? 0 : slice.allocated(i);
    let first = isWhole ? 0 : Math.floor(from / subclusterSize);
    let end = isWhole ? 32 : Math.ceil(to / subclusterSize);
    if (inPlace) {
      if (!isStored(stored, first)) this.fillFrom = isWhole ? 0 : first * subclusterSize;
      if (!isStored(stored, end - 1)) this.fillTo = isWhole ? clusterSize : end * subclusterSize;
    } else {
      // One range of subclusters moves: from the first to the last that is stored or written.
      if (!isWhole && stored !== 0) {
        first = Math.min(first, 31 - Math.clz32(stored & -stored));
        end = Math.max(end, 32 - Math.clz32(stored));
      }
      this.fillFrom = isWhole ? 0 : first * subclusterSize;
      this.fillTo = isWhole ? clusterSize : end * subclusterSize;
    }
    const touched = subclusterMask(first, end);
    this.allocated = ((inPlace ? stored : 0) | touched) >>> 0;
    this.zeros = (isWhole ? 0 : slice.zeros(i) & ~touched) >>> 0;
  }
}

function isStored(stored: number, subcluster: number): boolean {
  return ((stored >>> subcluster) & 1) !== 0;
}

/** Reads what the guest sees, for parts of clusters that move. */
export class FillReader {
  readonly #chain: Chain;
  /** Of the disk in bytes: behind it are zeros. */
  size: number;
  readonly #plan = new Plan();

  constructor(chain: Chain, size: number) {
    this.#chain = chain;
    this.size = size;
  }

  /** Fills `into` with the guest bytes from `start` on. */
  async read(start: number, into: Uint8Array): Promise<void> {
    const end = Math.max(start, Math.min(start + into.length, this.size));
    into.fill(0, end - start);
    for (let at = start; at < end; ) {
      const reached = await this.#chain.map(at, end, this.#plan);
      await this.#chain.execute(this.#plan, at, into.subarray(at - start, reached - start));
      at = reached;
    }
  }

  /** Whether a guest range is known to read as zeros, by the tables alone. */
  async isZero(start: number, end: number): Promise<boolean> {
    const to = Math.min(end, this.size);
    for (let at = start; at < to; ) {
      at = await this.#chain.map(at, to, this.#plan);
      for (let i = 0; i < this.#plan.count; i++)
        if (!readsAsZeros(this.#plan.kind[i]!)) return false;
    }
    return true;
  }
}

/** Kinds without bytes anywhere; what no file of the chain holds is left unallocated. */
function readsAsZeros(kind: number): boolean {
  return (
    kind === RUN_UNALLOCATED ||
    kind === RUN_ZERO_PLAIN ||
    kind === RUN_ZERO_ALLOCATED ||
    kind === RUN_UNALLOCATED_SUBCLUSTER
  );
}
