import type { DeflateLevel } from '../codecs/deflate.ts';
import { Qcow2Error } from '../errors.ts';
import { l1Index } from '../format/geometry.ts';
import { writeL1 } from '../format/l1-entry.ts';
import { writeRefcountTableEntry } from '../format/refcount-entry.ts';
import { ALLOCATOR_SLOTS, AppendAllocator } from '../image/append-allocator.ts';
import {
  headerCluster,
  layOutImage,
  mostHostClusters,
  type NewImageLayout,
  type NewImageOptions,
} from '../image/new-image.ts';
import type { PackedChunk } from '../image/qcow2-writer.ts';
import { SequentialAllocator } from '../image/sequential-allocator.ts';
import { SequentialRefcounts } from '../image/sequential-refcounts.ts';
import type { Turn } from '../image/target.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Source, WantedChunks } from './chunks.ts';
import { CHUNK_BYTES, ConvertStep, type ConvertStepOptions } from './convert-step.ts';
import { FrontToBack } from './front-to-back.ts';
import { type Piece, type PlannedStream, type StreamSteps, wholeClusters } from './stream-parts.ts';

/** What becomes of the source's clusters. */
export interface CompressedRules {
  dense: boolean;
  hasBacking: boolean;
  leavesToBacking: boolean;
  level: DeflateLevel;
}

/** A chunk that was read and compressed, and where it belongs. */
export type PackedAt = PackedChunk & { start: number };

/**
 * Reads and compresses chunks, on threads of its own.
 * @param starts guest offsets of the chunks
 * @returns the chunks in this order
 */
export type ChunkPacker = (
  step: ConvertStepOptions,
  starts: AsyncIterable<number>,
  withBytes: boolean,
) => AsyncIterable<PackedAt>;

/**
 * Plans a compressed image. Its header names the L1 table and the refcount table, which say where all
 * else is, so sizes must be known before the first byte goes out: the disk is read and compressed
 * twice. The first time only tables are kept that go to the front: 8 bytes for each L2 table and each
 * refcount block. L2 tables and refcount blocks lie behind what they describe, so no more is ever held.
 * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE, and those of reading the source
 */
export async function planCompressed(
  source: Source,
  create: NewImageOptions,
  rules: CompressedRules,
  kernel: Kernel,
  steps: StreamSteps,
  packer?: ChunkPacker,
): Promise<PlannedStream> {
  const layout = layOutImage(create, mostHostClusters(create));
  const stream = await CompressedStream.prepare(source, layout, rules, kernel, steps, packer);
  await stream.measure();
  return stream;
}

class CompressedStream implements PlannedStream {
  length = 0;
  readonly #source: Source;
  readonly #layout: NewImageLayout;
  readonly #steps: StreamSteps;
  readonly #chunkBytes: number;
  readonly #which: WantedChunks;
  readonly #file: FrontToBack;
  readonly #state: Float64Array;
  readonly #allocator: SequentialAllocator;
  readonly #refcounts: SequentialRefcounts;
  readonly #step: ConvertStep;
  readonly #packed: (starts: AsyncIterable<number>, withBytes: boolean) => AsyncIterable<PackedAt>;
  readonly #turn: Turn;
  readonly #table: Piece;
  /** L1 index of the table at hand; -1: it has no entries. */
  #tableIndex = -1;
  readonly #l1: Piece;
  readonly #l1View: DataView;
  /** The last refcount block of the head. */
  #headBlock = new Uint8Array(0);
  /** Index of the last refcount block. */
  #lastBlock = 0;
  #measured = false;

  private constructor(
    source: Source,
    layout: NewImageLayout,
    which: WantedChunks,
    chunkBytes: number,
    steps: StreamSteps,
    parts: {
      file: FrontToBack;
      state: Float64Array;
      allocator: SequentialAllocator;
      refcounts: SequentialRefcounts;
      step: ConvertStep;
      packed: (starts: AsyncIterable<number>, withBytes: boolean) => AsyncIterable<PackedAt>;
    },
  ) {
    this.#source = source;
    this.#layout = layout;
    this.#which = which;
    this.#chunkBytes = chunkBytes;
    this.#steps = steps;
    this.#file = parts.file;
    this.#state = parts.state;
    this.#allocator = parts.allocator;
    this.#refcounts = parts.refcounts;
    this.#step = parts.step;
    this.#packed = parts.packed;
    this.#table = new Uint8Array(layout.geometry.clusterSize);
    this.#l1 = wholeClusters(new Uint8Array(layout.header.l1Size * 8), layout.geometry);
    this.#l1View = new DataView(this.#l1.buffer);
    this.#turn = (allocate) => {
      allocate();
      this.#refcounts.add(this.#allocator.added());
    };
  }

  static async prepare(
    source: Source,
    layout: NewImageLayout,
    { dense, hasBacking, leavesToBacking, level }: CompressedRules,
    kernel: Kernel,
    steps: StreamSteps,
    packer: ChunkPacker | undefined,
  ): Promise<CompressedStream> {
    const { geometry, header, headBlocks } = layout;
    // A chunk has one L2 table.
    const chunkBytes = Math.min(Math.max(CHUNK_BYTES, geometry.clusterSize), geometry.l2Coverage);
    const { version, size, l1TableOffset, compressionType } = header;
    const state = new Float64Array(ALLOCATOR_SLOTS);
    const allocator = new SequentialAllocator(state, geometry, headBlocks);
    const file = new FrontToBack();
    const stepOptions: ConvertStepOptions = {
      chunkBytes,
      target: {
        format: 'qcow2',
        writer: {
          geometry,
          version,
          size,
          l1TableOffset,
          dataFile: false,
          mappedAhead: false,
          hasBacking,
          dense,
          chunkBytes,
        },
        compressionType,
        compressionLevel: level,
        leavesToBacking,
      },
    };
    const step = await ConvertStep.prepare({
      source,
      storage: file,
      dataStorage: file,
      kernel,
      allocatorState: state,
      allocator,
      step: stepOptions,
    });
    const packed = (starts: AsyncIterable<number>, withBytes: boolean): AsyncIterable<PackedAt> =>
      packer ? packer(stepOptions, starts, withBytes) : packedHere(step, starts, withBytes);
    const refcounts = new SequentialRefcounts(layout, kernel);
    const which =
      dense || (hasBacking && !leavesToBacking) ? 'all' : hasBacking ? 'overlay' : 'data';
    const parts = { file, state, allocator, refcounts, step, packed };
    return new CompressedStream(source, layout, which, chunkBytes, steps, parts);
  }

  /** Compresses everything to learn where it will be. */
  async measure(): Promise<void> {
    this.#file.begin(this.#layout.headClusters * this.#layout.geometry.clusterSize, false);
    for await (const done of this.#walk()) await this.#steps.reached(done);
    this.length = this.#file.size;
    this.#measured = true;
    this.#steps.passed(this.#source.size);
  }

  async *pieces(): AsyncGenerator<Piece, void, undefined> {
    yield* this.#head();
    this.#file.begin(this.#layout.headClusters * this.#layout.geometry.clusterSize, true);
    for await (const done of this.#walk()) {
      await this.#steps.reached(done);
      yield* this.#file.take();
    }
    yield* this.#file.take();
    if (this.#file.size !== this.length) throw hasChanged();
  }

  /** Allocates, compresses and writes everything behind the head; yields how far it is on the disk. */
  async *#walk(): AsyncGenerator<number, void, undefined> {
    const { geometry, headClusters } = this.#layout;
    AppendAllocator.initialise(this.#state, headClusters);
    this.#refcounts.begin((index, block) => this.#endBlock(index, block));
    this.#table.fill(0);
    this.#tableIndex = -1;
    let group = -1;
    const starts = this.#source.chunks(this.#chunkBytes, this.#which);
    for await (const packed of this.#packed(starts, this.#measured)) {
      const { start } = packed;
      const index = l1Index(start, geometry);
      if (index !== group) this.#endTable();
      group = index;
      const record = await this.#step.place(start, packed, this.#turn);
      for (const { first, entries } of record.tables) {
        this.#table.set(entries, first * geometry.l2EntrySize);
        this.#tableIndex = index;
      }
      yield start + this.#chunkBytes;
    }
    this.#endTable();
    this.#endRefcounts();
    yield this.#source.size;
  }

  /** Writes the L2 table at hand, if it has entries, behind the clusters it maps. */
  #endTable(): void {
    if (this.#tableIndex < 0) return;
    this.#allocator.begin();
    const offset = this.#allocator.cluster();
    this.#refcounts.add(this.#allocator.added());
    this.#file.write(offset, this.#table);
    const at = this.#tableIndex * 8;
    const word = this.#l1View.getBigUint64(at);
    writeL1(this.#l1View, at, offset, true);
    if (this.#measured && this.#l1View.getBigUint64(at) !== word) throw hasChanged();
    this.#table.fill(0);
    this.#tableIndex = -1;
  }

  /** Keeps the block of the head; any other goes to the last cluster it counts. */
  #endBlock(index: number, block: Uint8Array): void {
    const { headBlocks, geometry } = this.#layout;
    if (index === headBlocks - 1) this.#endHeadBlock(block);
    else {
      const cluster = (index + 1) * geometry.refcountBlockEntries - 1;
      this.#file.schedule(cluster * geometry.clusterSize, block);
    }
  }

  #endHeadBlock(block: Uint8Array): void {
    if (!this.#measured) this.#headBlock = block.slice();
    else if (block.some((byte, i) => byte !== this.#headBlock[i])) throw hasChanged();
  }

  /** The last block lies at the end: it counts itself, too. */
  #endRefcounts(): void {
    const { headBlocks, geometry } = this.#layout;
    this.#lastBlock = this.#refcounts.index;
    if (this.#lastBlock === headBlocks - 1) {
      this.#endHeadBlock(this.#refcounts.block);
      return;
    }
    const open = AppendAllocator.clusters(this.#state);
    this.#refcounts.add({ first: open, counts: [1], open: 0, more: 0 });
    this.#file.write(open * geometry.clusterSize, this.#refcounts.block);
  }

  /** Header, refcount table, its first blocks, L1 table. */
  *#head(): Generator<Piece, void, undefined> {
    const { geometry, header, headBlocks } = this.#layout;
    const { clusterSize, refcountBlockEntries } = geometry;
    yield wholeClusters(headerCluster(this.#layout), geometry);
    const table = new Uint8Array(header.refcountTableClusters * clusterSize);
    const view = new DataView(table.buffer);
    const firstBlock = header.refcountTableOffset + table.length;
    for (let k = 0; k <= this.#lastBlock; k++) {
      let offset = ((k + 1) * refcountBlockEntries - 1) * clusterSize;
      if (k < headBlocks) offset = firstBlock + k * clusterSize;
      else if (k === this.#lastBlock) offset = this.length - clusterSize;
      writeRefcountTableEntry(view, k * 8, offset);
    }
    yield table;
    for (let k = 0; k < headBlocks - 1; k++) yield this.#refcounts.fullBlock().slice();
    yield this.#headBlock.slice();
    yield this.#l1.slice();
  }
}

async function* packedHere(
  step: ConvertStep,
  starts: AsyncIterable<number>,
  withBytes: boolean,
): AsyncGenerator<PackedAt, void, undefined> {
  for await (const start of starts) yield { start, ...(await step.pack(start, withBytes)) };
}

function hasChanged(): Qcow2Error {
  const text =
    'the source has changed since it was read first: what was sent is not whole; start again';
  return new Qcow2Error('IO', text);
}
