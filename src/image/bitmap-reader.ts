import { Qcow2Error } from '../errors.ts';
import type { BitmapDirectoryEntry } from '../format/bitmap-directory.ts';
import { type BitmapTableEntry, decodeBitmapTableEntry } from '../format/bitmap-table.ts';
import { viewOf } from '../format/fields.ts';
import { clustersFor, type Geometry, requireInFile } from '../format/geometry.ts';
import type { Storage } from '../storage/storage.ts';

/** The bits of a stored bitmap, read through its table (format section 13). Memory: the table. */
export class BitmapReader {
  readonly #storage: Storage;
  readonly #geometry: Geometry;
  readonly #table: DataView;

  /** @param table whole; changes of it are followed */
  constructor(storage: Storage, geometry: Geometry, table: Uint8Array) {
    this.#storage = storage;
    this.#geometry = geometry;
    this.#table = viewOf(table);
  }

  /** @throws Qcow2Error TRUNCATED: the file ends before the table does; IO */
  static async open(
    storage: Storage,
    { bitmapTableOffset, bitmapTableSize }: BitmapDirectoryEntry,
    geometry: Geometry,
  ): Promise<BitmapReader> {
    const length = bitmapTableSize * 8;
    requireInFile('bitmap table', bitmapTableOffset, length, storage.size, geometry);
    const bytes = new Uint8Array(length);
    await readWhole(storage, bitmapTableOffset, bytes);
    return new BitmapReader(storage, geometry, bytes);
  }

  /** Entries of the table. */
  get entries(): number {
    return this.#table.byteLength / 8;
  }

  /** Table entries that have a cluster. */
  get dataClusters(): number {
    let count = 0;
    for (let index = 0; index < this.entries; index++)
      if (this.entry(index).kind === 'data') count++;
    return count;
  }

  /** @throws Qcow2Error MALFORMED */
  entry(index: number): BitmapTableEntry {
    return decodeBitmapTableEntry(this.#table.getBigUint64(index * 8), this.#geometry);
  }

  /**
   * Each data cluster belongs to one entry (format section 6): otherwise a small file could make a
   * bitmap of any length.
   * @throws Qcow2Error MALFORMED
   */
  requireOwnClusters(): void {
    const most = clustersFor(this.#storage.size, this.#geometry);
    if (this.dataClusters <= most) return;
    const text = `bitmap table of '${this.#storage.name}' names more clusters than the ${most} of the file; some are shared, it is damaged`;
    throw new Qcow2Error('MALFORMED', text, { structure: 'bitmap table' });
  }

  /**
   * Fills `into` with the bitmap's bytes from `start` on, zeros behind its end; false if the table says
   * that all are zeros.
   */
  async read(start: number, into: Uint8Array): Promise<boolean> {
    const { clusterSize } = this.#geometry;
    let stored = false;
    into.fill(0);
    const end = Math.min(start + into.length, this.entries * clusterSize);
    for (let at = start; at < end; ) {
      const within = at % clusterSize;
      const to = Math.min(end, at - within + clusterSize);
      const part = into.subarray(at - start, to - start);
      const entry = this.entry(Math.floor(at / clusterSize));
      stored ||= entry.kind !== 'zeros';
      if (entry.kind === 'ones') part.fill(0xff);
      else if (entry.kind === 'data')
        await readWhole(this.#storage, entry.hostOffset + within, part);
      at = to;
    }
    return stored;
  }
}

async function readWhole(storage: Storage, offset: number, into: Uint8Array): Promise<void> {
  const n = await storage.read(offset, into);
  if (n === into.length) return;
  const text = `'${storage.name}' ends at offset ${offset + n}, ${into.length - n} bytes before the end of a bitmap; the file is truncated`;
  throw new Qcow2Error('TRUNCATED', text, { structure: 'bitmap data', offset: offset + n });
}
