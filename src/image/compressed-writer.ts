import { isQcow2Error } from '../errors.ts';
import { SECTOR_SIZE } from '../format/limits.ts';
import { entriesAt, giveBack, type MappingContext, release } from './guest-writer.ts';
import { invalidEntry } from './invalid-entry.ts';

/** Writes clusters as compressed streams (format section 8), one behind the other in the file. */
export class CompressedWriter {
  readonly #context: MappingContext;
  /** Where the next stream may begin, in a cluster that ends at `#end`; they are equal if there is none. */
  #at = 0;
  #end = 0;
  #bytes = new Uint8Array(0);

  constructor(context: MappingContext) {
    this.#context = context;
  }

  /** Must be called when clusters become free: what was begun may be among them. */
  forget(): void {
    this.#at = 0;
    this.#end = 0;
  }

  /**
   * Stores the cluster at a guest offset as `stream`, which is shorter than a cluster.
   * @throws Qcow2Error BAD_ENTRY, those of the allocator, IO
   */
  async write(guest: number, stream: Uint8Array): Promise<void> {
    const { active, slice, allocator, writeBack, layer } = this.#context;
    const range = await entriesAt(this.#context, guest, guest + 1);
    slice.at(await active.pointer(range.l2Offset, range.index));
    const fault = slice.fault(0, guest);
    if (fault !== 0) {
      const offset = range.l2Offset + range.index * this.#context.geometry.l2EntrySize;
      const where = { offset, guestOffset: guest };
      await writeBack.markCorrupt(invalidEntry(layer, fault, slice.host(0), where));
    }
    await writeBack.beforeChange();
    const { host, first, clusters } = await this.#place(stream.length);
    try {
      const bytes = this.#padded(stream);
      await writeBack.requireNoOverlap(host, stream.length, 'guest data');
      await writeBack.file.write(host, bytes);
      slice.at(await active.pointer(range.l2Offset, range.index));
    } catch (error) {
      this.forget();
      await giveBack(allocator, first, clusters);
      throw error;
    }
    release(this.#context, 0);
    slice.setCompressed(0, host, stream.length);
    active.changed(range.l2Offset, range.index, 1);
  }

  /** Takes room for a stream, counted; tells which clusters it is in. */
  async #place(length: number): Promise<{ host: number; first: number; clusters: number }> {
    const { allocator, geometry } = this.#context;
    const { clusterSize } = geometry;
    const host = this.#at;
    const current = this.#end - clusterSize;
    // The sectors of a stream count, so the next one begins at once, in the last of them.
    if (host < this.#end && (await this.#shares(current))) {
      if (host + length <= this.#end) {
        this.#at = host + length;
        return { host, first: current, clusters: 1 };
      }
      const next = await this.#newCluster();
      if (next === this.#end) {
        this.#at = host + length;
        this.#end = next + clusterSize;
        return { host, first: current, clusters: 2 };
      }
      await giveBack(allocator, current, 1);
      this.#at = next + length;
      this.#end = next + clusterSize;
      return { host: next, first: next, clusters: 1 };
    }
    const next = await this.#newCluster();
    this.#at = next + length;
    this.#end = next + clusterSize;
    return { host: next, first: next, clusters: 1 };
  }

  async #newCluster(): Promise<number> {
    return (await this.#context.allocator.allocateRun(1)).offset;
  }

  /** Counts the current cluster once more; false if its counter is too narrow. */
  async #shares(cluster: number): Promise<boolean> {
    try {
      await this.#context.allocator.addReference(cluster, 1, 1);
      return true;
    } catch (error) {
      if (isQcow2Error(error) && error.code === 'TOO_LARGE') return false;
      throw error;
    }
  }

  /** A stream with zeros up to the end of its last sector where that is free: the file ends with it. */
  #padded(stream: Uint8Array): Uint8Array {
    const behind = (SECTOR_SIZE - (this.#at % SECTOR_SIZE)) % SECTOR_SIZE;
    if (behind === 0) return stream;
    const length = stream.length + behind;
    if (this.#bytes.length < length) this.#bytes = new Uint8Array(length + SECTOR_SIZE);
    this.#bytes.set(stream);
    this.#bytes.fill(0, stream.length, length);
    return this.#bytes.subarray(0, length);
  }
}
