import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { ChunkRecord, ChunkWriter } from './target.ts';

const UNIT_BITS = 12;
const UNIT_BYTES = 1 << UNIT_BITS;

/**
 * Writes chunks to a raw file, where the offset is the guest offset. Runs of zeros are skipped where the
 * file reads as zeros before; holes are made of them where it holds something else.
 */
export class RawWriter implements ChunkWriter {
  readonly #storage: Storage;
  readonly #kernel: Kernel;
  readonly #size: number;
  readonly #minimumHole: number;
  readonly #punches: boolean;
  readonly #bitmap: Region;

  /**
   * @param size length of the disk in bytes; nothing is written behind it
   * @param minimumHole zero runs of at least so many bytes are left out; 0 writes everything
   * @param punches the file may hold other bytes: holes are made of what is left out
   */
  constructor(
    storage: Storage,
    size: number,
    kernel: Kernel,
    chunkBytes: number,
    minimumHole: number,
    punches: boolean,
  ) {
    this.#storage = storage;
    this.#kernel = kernel;
    this.#size = size;
    this.#minimumHole = minimumHole;
    this.#punches = punches;
    this.#bitmap = kernel.arena.allocate(Math.ceil(chunkBytes / UNIT_BYTES / 8) + 4);
  }

  async write(start: number, chunk: Uint8Array): Promise<ChunkRecord | null> {
    const length = Math.min(chunk.length, this.#size - start);
    if (this.#minimumHole === 0) {
      await this.#storage.write!(start, chunk.subarray(0, length));
      return null;
    }
    const units = Math.ceil(length / UNIT_BYTES);
    this.#kernel.exports.nonzero_bitmap(chunk.byteOffset, length, UNIT_BITS, this.#bitmap.ptr);
    const smallest = Math.max(1, Math.floor(this.#minimumHole / UNIT_BYTES));
    let done = 0;
    for (let unit = this.#nextRun(0, units, 1); unit < units; ) {
      const hole = this.#punch(start + done, start + unit * UNIT_BYTES);
      if (hole !== undefined) await hole;
      const end = this.#dataEnd(unit, units, smallest);
      const to = Math.min(end * UNIT_BYTES, length);
      const written = this.#storage.write!(
        start + unit * UNIT_BYTES,
        chunk.subarray(unit * UNIT_BYTES, to),
      );
      if (written !== undefined) await written;
      done = to;
      unit = this.#nextRun(end, units, 1);
    }
    await this.#punch(start + done, start + length);
    return null;
  }

  #punch(start: number, end: number): void | Promise<void> {
    if (this.#punches && end > start) return this.#storage.punchHole!(start, end - start);
  }

  /** Where the data that begins at `unit` ends: before the next hole that is long enough. */
  #dataEnd(unit: number, units: number, smallestHole: number): number {
    let end = this.#nextRun(unit, units, 0);
    while (end < units) {
      const data = this.#nextRun(end, units, 1);
      if (data - end >= smallestHole || data === units) break;
      end = this.#nextRun(data, units, 0);
    }
    return end;
  }

  /** Index of the first unit from `from` on whose bit is `value`. */
  #nextRun(from: number, units: number, value: 0 | 1): number {
    const bits = this.#bitmap.bytes;
    const whole = value === 1 ? 0 : 0xff;
    let unit = from;
    while (unit < units) {
      const byte = bits[unit >> 3]!;
      if ((unit & 7) === 0 && byte === whole) unit += 8;
      else if (((byte >> (unit & 7)) & 1) === value) return unit;
      else unit++;
    }
    return units;
  }
}
