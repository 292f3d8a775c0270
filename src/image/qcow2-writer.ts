import type { Codec } from '../codecs/codec.ts';
import { writeCompressed } from '../format/compressed-descriptor.ts';
import { type Geometry, l1Index, l2Index } from '../format/geometry.ts';
import { decodeL1Entry } from '../format/l1-entry.ts';
import {
  L2_OFFSET_MASK,
  writeL2Normal,
  writeL2ZeroPlain,
  writeSubclusterBitmap,
} from '../format/l2-entry.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';
import type { AddedReferences, AppendAllocator } from './append-allocator.ts';
import type { ChunkRecord, ChunkWriter, NewEntries, Turn } from './target.ts';

/** What a qcow2 target does with clusters; serialisable, every thread gets the same. */
export interface Qcow2WriterOptions {
  geometry: Geometry;
  version: 2 | 3;
  /** Length of the disk in bytes; Infinity as long as it is not known. */
  size: number;
  l1TableOffset: number;
  /** Guest data goes to the external data file, at its guest offset. */
  dataFile: boolean;
  /** Every cluster was given its place before (raw data files, preallocation). */
  mappedAhead: boolean;
  /** Zeros must hide a backing file. */
  hasBacking: boolean;
  /** Zero clusters are stored too. */
  dense: boolean;
  chunkBytes: number;
}

const ZERO = 0;
const DATA = 1;
const COMPRESSED = 2;
/** Left to the backing file. */
const LEAVE = 3;

/** A chunk that was classified and compressed; survives `structuredClone`. */
export interface PackedChunk {
  /** What becomes of each cluster. */
  kinds: Uint8Array;
  /** Where the stream of a cluster starts, and one behind the last. */
  streamAt: Float64Array;
  /** Bit per (sub)cluster: holds a byte other than zero. */
  bits: Uint8Array;
  /** Streams, then clusters that are stored as they are; null if only places are asked for. */
  bytes: Uint8Array<ArrayBuffer> | null;
}

/** Where an L2 table is. */
type TablePlace = Pick<NewEntries, 'l1Index' | 'offset'>;

/** Writes chunks of a new qcow2 image: classify and compress, allocate in turn, write. */
export class Qcow2Writer implements ChunkWriter {
  readonly #storage: Storage;
  readonly #dataStorage: Storage;
  readonly #options: Qcow2WriterOptions;
  readonly #kernel: Kernel;
  readonly #allocator: AppendAllocator;
  readonly #codec: Codec | undefined;
  /** Bit per (sub)cluster: holds a byte other than zero. */
  readonly #bitmap: Region;
  /** Streams of the chunk, one behind the other. */
  readonly #streams: Region | undefined;
  readonly #entries: Uint8Array;
  readonly #entriesView: DataView;
  readonly #kind: Uint8Array;
  readonly #host: Float64Array;
  /** Where the stream of a cluster starts in `#streams`, and one behind the last. */
  readonly #streamAt: Float64Array;

  /** @param codec compresses clusters; absent for plain images */
  constructor(
    storage: Storage,
    dataStorage: Storage,
    options: Qcow2WriterOptions,
    kernel: Kernel,
    allocator: AppendAllocator,
    codec?: Codec,
  ) {
    const { geometry, chunkBytes } = options;
    const clusters = chunkBytes / geometry.clusterSize;
    this.#storage = storage;
    this.#dataStorage = dataStorage;
    this.#options = options;
    this.#kernel = kernel;
    this.#codec = codec;
    this.#allocator = allocator;
    this.#bitmap = kernel.arena.allocate(Math.ceil(chunkBytes / geometry.subclusterSize / 8) + 4);
    this.#streams = codec && kernel.arena.allocate(chunkBytes);
    this.#entries = new Uint8Array(clusters * geometry.l2EntrySize);
    this.#entriesView = new DataView(this.#entries.buffer);
    this.#kind = new Uint8Array(clusters);
    this.#host = new Float64Array(clusters);
    this.#streamAt = new Float64Array(clusters + 1);
  }

  /** @param leave per cluster 1 where the backing file answers (targets with one only) */
  async write(
    start: number,
    chunk: Uint8Array,
    turn: Turn,
    leave?: Uint8Array,
  ): Promise<ChunkRecord> {
    const count = this.#clustersAt(start, chunk);
    this.#classify(chunk, count, leave);
    return this.#store(start, chunk, count, turn);
  }

  /**
   * The first half of `write`: classifies and compresses, for another writer to place.
   * @param withBytes false: it is only to be learnt where everything will be
   */
  pack(
    start: number,
    chunk: Uint8Array,
    leave: Uint8Array | undefined,
    withBytes: boolean,
  ): PackedChunk {
    const count = this.#clustersAt(start, chunk);
    this.#classify(chunk, count, leave);
    const kinds = this.#kind.slice(0, count);
    const streamAt = this.#streamAt.slice(0, count + 1);
    const bits = this.#bitmap.bytes.slice();
    return { kinds, streamAt, bits, bytes: withBytes ? this.#gather(chunk, count) : null };
  }

  /** The second half of `write`. @param chunk room for a chunk */
  async place(
    start: number,
    { kinds, streamAt, bits, bytes }: PackedChunk,
    chunk: Uint8Array,
    turn: Turn,
  ): Promise<ChunkRecord> {
    const count = kinds.length;
    this.#kind.set(kinds);
    this.#streamAt.set(streamAt);
    this.#bitmap.bytes.set(bits);
    if (bytes) this.#scatter(bytes, chunk, count);
    return this.#store(start, chunk, count, turn);
  }

  #clustersAt(start: number, chunk: Uint8Array): number {
    const length = Math.min(chunk.length, this.#options.size - start);
    return Math.ceil(length / this.#options.geometry.clusterSize);
  }

  /** The streams, and behind them the clusters that are stored as they are. */
  #gather(chunk: Uint8Array, count: number): Uint8Array<ArrayBuffer> {
    const { clusterSize } = this.#options.geometry;
    let end = this.#streamAt[count]!;
    const plain = this.#kind
      .subarray(0, count)
      .reduce((sum, kind) => sum + Number(kind === DATA), 0);
    const bytes = new Uint8Array(end + plain * clusterSize);
    if (this.#streams) bytes.set(this.#streams.bytes.subarray(0, end));
    for (let k = 0; k < count; k++) {
      if (this.#kind[k] !== DATA) continue;
      bytes.set(chunk.subarray(k * clusterSize, (k + 1) * clusterSize), end);
      end += clusterSize;
    }
    return bytes;
  }

  /** Puts back what `#gather` took. */
  #scatter(bytes: Uint8Array, chunk: Uint8Array, count: number): void {
    const { clusterSize } = this.#options.geometry;
    let end = this.#streamAt[count]!;
    this.#streams?.bytes.set(bytes.subarray(0, end));
    for (let k = 0; k < count; k++) {
      if (this.#kind[k] !== DATA) continue;
      chunk.set(bytes.subarray(end, end + clusterSize), k * clusterSize);
      end += clusterSize;
    }
  }

  /** Gives what was classified its place, and writes it. */
  async #store(start: number, chunk: Uint8Array, count: number, turn: Turn): Promise<ChunkRecord> {
    const record: ChunkRecord = { references: null, tables: [] };
    const { mappedAhead, geometry } = this.#options;
    const tables: TablePlace[] = [];
    if (mappedAhead) await this.#readMapping(start, count, tables);
    else
      await turn(() => {
        record.references = this.#allocate(start, count, tables);
      });
    await this.#writeClusters(start, chunk, count);
    // What is mapped ahead only lacks the marks of its subclusters.
    if (!mappedAhead || geometry.extendedL2)
      for (const table of tables) record.tables.push(this.#encodeEntries(start, count, table));
    return record;
  }

  /** Where the clusters of a disk that was mapped ahead are, and its tables. */
  async #readMapping(start: number, count: number, tables: TablePlace[]): Promise<void> {
    const { geometry, l1TableOffset } = this.#options;
    const { clusterSize, l2EntrySize } = geometry;
    const word = new Uint8Array(8);
    const view = new DataView(word.buffer);
    for (let k = 0; k < count; k++) {
      const guest = start + k * clusterSize;
      const index = l1Index(guest, geometry);
      if (tables.at(-1)?.l1Index !== index) {
        await this.#storage.read(l1TableOffset + index * 8, word);
        const { l2Offset } = decodeL1Entry(view.getBigUint64(0), geometry);
        tables.push({ l1Index: index, offset: l2Offset });
      }
      const { offset } = tables.at(-1)!;
      await this.#storage.read(offset + l2Index(guest, geometry) * l2EntrySize, word);
      this.#host[k] = Number(view.getBigUint64(0) & L2_OFFSET_MASK);
    }
  }

  #classify(chunk: Uint8Array, count: number, leave: Uint8Array | undefined): void {
    const { clusterSize, subclusterSize } = this.#options.geometry;
    const unitBits = Math.log2(subclusterSize);
    this.#kernel.exports.nonzero_bitmap(
      chunk.byteOffset,
      count * clusterSize,
      unitBits,
      this.#bitmap.ptr,
    );
    let streamEnd = 0;
    for (let k = 0; k < count; k++) {
      this.#streamAt[k] = streamEnd;
      const hasData = this.#options.dense || this.#unitBits(k) !== 0;
      if (leave?.[k] === 1) this.#kind[k] = LEAVE;
      else if (!hasData && !this.#mustStoreZeros()) this.#kind[k] = ZERO;
      else {
        const length = this.#codec ? this.#compress(chunk, k, streamEnd) : -1;
        this.#kind[k] = length < 0 ? DATA : COMPRESSED;
        streamEnd += Math.max(0, length);
      }
    }
    this.#streamAt[count] = streamEnd;
  }

  /** Version 2 has no zero flag: only stored zeros hide a backing file. */
  #mustStoreZeros(): boolean {
    return this.#options.hasBacking && this.#options.version === 2;
  }

  #compress(chunk: Uint8Array, k: number, streamEnd: number): number {
    const { clusterSize } = this.#options.geometry;
    const input = chunk.subarray(k * clusterSize, (k + 1) * clusterSize);
    // A stream of a whole cluster or more is stored as it is (section 8).
    const room = this.#streams!.bytes.subarray(streamEnd, streamEnd + clusterSize - 1);
    return this.#codec!.compress(input, room);
  }

  /** Bits of cluster k: one, or one per subcluster. */
  #unitBits(k: number): number {
    const bits = this.#bitmap.bytes;
    if (!this.#options.geometry.extendedL2) return (bits[k >> 3]! >> (k & 7)) & 1;
    const at = k * 4;
    return (bits[at]! | (bits[at + 1]! << 8) | (bits[at + 2]! << 16) | (bits[at + 3]! << 24)) >>> 0;
  }

  /**
   * Gives every stored cluster its place; no I/O, since all others wait. Streams come first: a plain
   * cluster between two would leave the rest of the first one's cluster unused.
   */
  #allocate(start: number, count: number, tables: TablePlace[]): AddedReferences {
    const { geometry, dataFile, hasBacking } = this.#options;
    const { clusterSize } = geometry;
    const allocator = this.#allocator;
    allocator.begin();
    let table = -1;
    for (let k = 0; k < count; k++) {
      const kind = this.#kind[k]!;
      const needsEntry = kind === ZERO ? hasBacking : kind !== LEAVE;
      const index = l1Index(start + k * clusterSize, geometry);
      if (needsEntry && index !== table) {
        table = index;
        tables.push({ l1Index: index, offset: allocator.table(index) });
      }
    }
    for (let k = 0; k < count; k++)
      if (this.#kind[k] === COMPRESSED)
        this.#host[k] = allocator.stream(this.#streamAt[k + 1]! - this.#streamAt[k]!);
    for (let k = 0; k < count; k++)
      if (this.#kind[k] === DATA)
        this.#host[k] = dataFile ? start + k * clusterSize : allocator.cluster();
    return allocator.added();
  }

  /** Writes streams, then data, in the order of the file; neighbours go out together. */
  async #writeClusters(start: number, chunk: Uint8Array, count: number): Promise<void> {
    for (const kind of [COMPRESSED, DATA]) {
      for (let k = 0; k < count; ) {
        let end = k + 1;
        if (this.#kind[k] === kind) {
          while (end < count && this.#follows(end, kind)) end++;
          const done =
            kind === DATA ? this.#writeData(start, chunk, k, end) : this.#writeStreams(k, end);
          if (done !== undefined) await done;
        }
        k = end;
      }
    }
  }

  #writeStreams(from: number, to: number): MaybePromise<void> {
    const bytes = this.#streams!.bytes.subarray(this.#streamAt[from]!, this.#streamAt[to]!);
    return this.#storage.write!(this.#host[from]!, bytes);
  }

  /** Whether cluster k is of this kind and directly behind cluster k - 1 in the file. */
  #follows(k: number, kind: number): boolean {
    if (this.#kind[k] !== kind) return false;
    const length =
      kind === DATA
        ? this.#options.geometry.clusterSize
        : this.#streamAt[k]! - this.#streamAt[k - 1]!;
    return this.#host[k] === this.#host[k - 1]! + length;
  }

  #writeData(start: number, chunk: Uint8Array, from: number, to: number): MaybePromise<void> {
    const { geometry, dataFile, size } = this.#options;
    const { clusterSize } = geometry;
    const first = from * clusterSize;
    // A data file ends with the disk; a cluster of the image itself is always whole.
    const end = dataFile ? Math.min(to * clusterSize, size - start) : to * clusterSize;
    const storage = dataFile ? this.#dataStorage : this.#storage;
    return storage.write!(this.#host[from]!, chunk.subarray(first, end));
  }

  /** The chunk's part of an L2 table. */
  #encodeEntries(start: number, count: number, table: TablePlace): NewEntries {
    const { clusterSize, l2Coverage, l2EntrySize, l2Entries } = this.#options.geometry;
    const base = table.l1Index * l2Coverage;
    const from = Math.max(0, (base - start) / clusterSize);
    const to = Math.min(count, (base - start) / clusterSize + l2Entries);
    this.#entries.fill(0, from * l2EntrySize, to * l2EntrySize);
    for (let k = from; k < to; k++) this.#encode(k);
    const entries = this.#entries.slice(from * l2EntrySize, to * l2EntrySize);
    return { ...table, first: (start + from * clusterSize - base) / clusterSize, entries };
  }

  #encode(k: number): void {
    const { geometry, mappedAhead, hasBacking } = this.#options;
    const { extendedL2, l2EntrySize } = geometry;
    const at = k * l2EntrySize;
    const view = this.#entriesView;
    const kind = this.#kind[k]!;
    if (kind === COMPRESSED) {
      const length = this.#streamAt[k + 1]! - this.#streamAt[k]!;
      writeCompressed(view, at, this.#host[k]!, length, geometry);
    } else if (kind === DATA || mappedAhead) {
      writeL2Normal(view, at, this.#host[k]!, true);
      if (!extendedL2 || kind === LEAVE) return;
      const allocated = this.#options.dense ? 0xffffffff : this.#unitBits(k);
      writeSubclusterBitmap(view, at, allocated, hasBacking ? ~allocated >>> 0 : 0);
    } else if (kind === ZERO && hasBacking) {
      if (extendedL2) writeSubclusterBitmap(view, at, 0, 0xffffffff);
      else writeL2ZeroPlain(view, at);
    }
  }
}
