import type { DeflateLevel } from '../codecs/deflate.ts';
import { loadCodec } from '../codecs/load.ts';
import { AppendAllocator } from '../image/append-allocator.ts';
import { type PackedChunk, Qcow2Writer, type Qcow2WriterOptions } from '../image/qcow2-writer.ts';
import { RawWriter } from '../image/raw-writer.ts';
import type { ChunkRecord, Turn } from '../image/target.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { Source } from './chunks.ts';

/** Guest bytes a thread reads, classifies and writes at once; at least a cluster. */
export const CHUNK_BYTES = 2 * 1024 * 1024;

/** Everything a thread needs to know to convert chunks; survives `structuredClone`. */
export interface ConvertStepOptions {
  chunkBytes: number;
  target:
    | {
        format: 'raw';
        size: number;
        minimumHole: number;
        /** The target may hold other bytes, and can make holes of them. */
        punches: boolean;
        /** The target can share what the source's files hold. */
        shares: boolean;
      }
    | {
        format: 'qcow2';
        writer: Qcow2WriterOptions;
        compressionType: number | null;
        compressionLevel: DeflateLevel;
        /** What the source leaves to its backing file is left to the target's. */
        leavesToBacking: boolean;
      };
}

/** Where chunks of a disk come from. */
export type ChunkSource = Pick<Source, 'images' | 'read' | 'prefetch'> &
  Partial<Pick<Source, 'share' | 'size'>>;

/** Looks at what was read of a chunk, up to the end of the disk, before it is written. */
export type ChunkLook = (bytes: Uint8Array) => Promise<void>;

/** What one thread converts with. */
export interface ConvertParts {
  source: ChunkSource;
  storage: Storage;
  dataStorage: Storage;
  kernel: Kernel;
  step: ConvertStepOptions;
  /** Shared by all threads. */
  allocatorState: Float64Array;
  /** Hands out clusters; default one over `allocatorState`. */
  allocator?: AppendAllocator;
}

/** Converts single chunks. Each thread has its own, over its own files and kernel. */
export class ConvertStep {
  readonly #source: ChunkSource;
  readonly #chunk: Region;
  readonly #raw: RawWriter | undefined;
  readonly #qcow2: Qcow2Writer | undefined;
  readonly #unit: number;
  readonly #leave: Uint8Array | undefined;
  /** The target, if it can share what the source's files hold. */
  readonly #sharing: Storage | undefined;

  private constructor(
    source: ChunkSource,
    chunk: Region,
    writer: RawWriter | Qcow2Writer,
    options: ConvertStepOptions,
    sharing?: Storage,
  ) {
    this.#source = source;
    this.#chunk = chunk;
    this.#sharing = sharing;
    this.#raw = writer instanceof RawWriter ? writer : undefined;
    this.#qcow2 = writer instanceof Qcow2Writer ? writer : undefined;
    const { target } = options;
    const overlay = target.format === 'qcow2' && target.leavesToBacking;
    this.#unit = overlay ? target.writer.geometry.clusterSize : 0;
    if (overlay) this.#leave = new Uint8Array(options.chunkBytes / this.#unit);
  }

  /** Opens the sources' chains and lays out all buffers: from here on no memory grows. */
  static async prepare(parts: ConvertParts): Promise<ConvertStep> {
    const { source, storage, dataStorage, kernel, step, allocatorState } = parts;
    for (const image of source.images) await image.chain();
    const { target, chunkBytes } = step;
    if (target.format === 'raw') {
      const { size, minimumHole, punches, shares } = target;
      const writer = new RawWriter(storage, size, kernel, chunkBytes, minimumHole, punches);
      const chunk = kernel.arena.allocate(chunkBytes);
      return new ConvertStep(source, chunk, writer, step, shares ? storage : undefined);
    }
    const { compressionType, compressionLevel: level } = target;
    const codec =
      compressionType === null
        ? undefined
        : await loadCodec(compressionType, kernel, { compress: true, level });
    const { allocator = new AppendAllocator(allocatorState, target.writer.geometry) } = parts;
    const writer = new Qcow2Writer(storage, dataStorage, target.writer, kernel, allocator, codec);
    return new ConvertStep(source, kernel.arena.allocate(chunkBytes), writer, step);
  }

  /** Begins to fetch what a chunk needs, where reading takes long. */
  prefetch(start: number): Promise<void> {
    return this.#source.prefetch(start, start + this.#chunk.length);
  }

  /** Reads, classifies and writes the chunk at guest offset `start`. */
  async run(start: number, turn: Turn, look?: ChunkLook): Promise<ChunkRecord | null> {
    const bytes = this.#chunk.bytes;
    const isShared =
      this.#sharing && (await this.#source.share?.(start, bytes.length, this.#sharing));
    if (isShared && !look) return null;
    await this.#source.read(start, bytes, this.#unit, this.#leave);
    const { size = Number.POSITIVE_INFINITY } = this.#source;
    await look?.(bytes.subarray(0, size - start));
    if (isShared) return null;
    if (this.#raw) return this.#raw.write(start, bytes);
    return this.#qcow2!.write(start, bytes, turn, this.#leave);
  }

  /** The first half of `run` for a qcow2 target, which writes nothing; see `Qcow2Writer.pack`. */
  async pack(start: number, withBytes: boolean): Promise<PackedChunk> {
    const bytes = this.#chunk.bytes;
    await this.#source.read(start, bytes, this.#unit, this.#leave);
    return this.#qcow2!.pack(start, bytes, this.#leave, withBytes);
  }

  /** The second half of `run`, which may be another thread's. */
  place(start: number, packed: PackedChunk, turn: Turn): Promise<ChunkRecord> {
    return this.#qcow2!.place(start, packed, this.#chunk.bytes, turn);
  }
}
