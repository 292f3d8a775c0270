import { COUNT_STATE_BYTES } from '../kernel/abi.ts';
import type { RunReader } from '../kernel/run-reader.ts';
import type { CheckedFile } from './check-file.ts';

/**
 * Counts the clusters that the decoded runs of an L2 table name: in the kernel as long as all is as it
 * should be, so that fragmented images cost no call for each run.
 */
export class RunCounter {
  readonly #file: CheckedFile;
  readonly #runs: RunReader;
  /** Address of what `count_runs` keeps, and that by its index among the doubles. */
  readonly #state: number;
  readonly #next: number;
  readonly #unitBits: number;
  #times = 0;
  #verifies = 0;

  constructor(file: CheckedFile, runs: RunReader) {
    this.#file = file;
    this.#runs = runs;
    this.#state = file.kernel.arena.allocate(COUNT_STATE_BYTES).ptr;
    this.#next = this.#state / 8;
    this.#unitBits = Math.log2(file.geometry.subclustersPerCluster);
  }

  /**
   * Begins a table.
   * @param times references each entry stands for
   * @param verifies whether bit 63 is compared with the stored counters
   */
  begin(times: number, verifies: boolean): void {
    this.#times = times;
    this.#verifies = verifies ? 1 : 0;
    const { f64 } = this.#file.kernel.arena;
    f64.fill(0, this.#next, this.#next + 3);
    f64[this.#next + 3] = -1;
  }

  /** Entries counted since that name clusters. */
  get entries(): number {
    return this.#file.kernel.arena.f64[this.#next + 1]!;
  }

  /** Times that they did not go on where the one before had ended. */
  get breaks(): number {
    return this.#file.kernel.arena.f64[this.#next + 2]!;
  }

  /** Highest cluster the kernel counted; -1: none. */
  get highest(): number {
    return this.#file.kernel.arena.f64[this.#next + 3]!;
  }

  /** Counts runs from index `first` on; returns the index of the one that needs a closer look. */
  countFrom(first: number): number {
    const { kernel, geometry, access, pieces, clusters } = this.#file;
    const counted = kernel.exports.count_runs(
      this.#runs.at(first),
      this.#runs.count - first,
      geometry.clusterBits,
      this.#unitBits,
      access.order,
      pieces.pointer,
      pieces.pieces,
      clusters,
      this.#times,
      this.#verifies,
      this.#state,
    );
    return first + counted;
  }

  /** Notes where the clusters of entries lie whose references are counted elsewhere. */
  place(host: number, bytes: number, entries: number): void {
    const { f64 } = this.#file.kernel.arena;
    const next = f64[this.#next]!;
    if (next !== 0 && host !== next) f64[this.#next + 2]! += 1;
    f64[this.#next] = host + bytes;
    f64[this.#next + 1]! += entries;
  }
}
