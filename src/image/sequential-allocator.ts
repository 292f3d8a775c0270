import type { Geometry } from '../format/geometry.ts';
import { AppendAllocator } from './append-allocator.ts';

/**
 * Hands out the host clusters of an image that is written strictly front to back. What is written once
 * its contents are known comes behind that: a refcount block is the last cluster it covers, and the L2
 * table lies behind the clusters it maps. A stream is not put before what was handed out meanwhile.
 */
export class SequentialAllocator extends AppendAllocator {
  readonly #perBlock: number;
  readonly #firstBlock: number;

  /** @param headBlocks refcount blocks that lie in the head */
  constructor(state: Float64Array, geometry: Geometry, headBlocks: number) {
    super(state, geometry);
    this.#perBlock = geometry.refcountBlockEntries;
    this.#firstBlock = headBlocks * geometry.refcountBlockEntries;
  }

  override cluster(): number {
    this.endStreams();
    return super.cluster();
  }

  /** The place is not known yet; `cluster` gives it when the table is whole. */
  override table(): number {
    return 0;
  }

  protected override isBlockPlace(cluster: number): boolean {
    return cluster >= this.#firstBlock && (cluster + 1) % this.#perBlock === 0;
  }
}
