import type { Codec } from '../codecs/codec.ts';
import type { DeflateLevel } from '../codecs/deflate.ts';
import { loadCodec } from '../codecs/load.ts';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { isUnallocated, Plan } from '../image/plan.ts';
import type { Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Source } from './chunks.ts';
import { type OperationControl, pacer } from './control.ts';
import { DigestInOrder, type DiskDigest } from './disk-digest.ts';
import { readAhead, reserveMemory } from './read-ahead.ts';

/** Guest bytes read, classified and written at once; at least a cluster. */
const CHUNK_BYTES = 2 * 1024 * 1024;

/** How the disk of an existing image is overwritten. */
export interface OverwriteOptions extends OperationControl {
  /** Holds the buffers, and decodes the sources; not the target's. */
  kernel: Kernel;
  /** Zeros need not be written: the target reads as zeros. */
  targetIsZero?: boolean | undefined;
  /** The target has the sources' backing file: what they leave to it is left to it there too. */
  leavesToBacking?: boolean | undefined;
  /** Zero runs of at least so many bytes take no space. 0: store all zeros. Default 4096. */
  sparseSize?: number | undefined;
  compress?: boolean | undefined;
  compressionLevel?: DeflateLevel | undefined;
  /** Takes the sources' disk as it is read. */
  digest?: DiskDigest | undefined;
}

/**
 * Writes the disk of the sources into that of a qcow2 image, in place: its header, snapshots and what
 * lies behind the sources' end stay. An error or a cut leaves some ranges new and others as they were.
 * @param target open for writing, with a kernel of its own
 * @throws Qcow2Error INVALID_ARGUMENT: it is too short; REFUSED: it cannot be compressed; ABORTED; those
 *   of reading the sources and writing the target
 */
export async function overwrite(
  source: Source,
  target: Image,
  options: OverwriteOptions,
): Promise<void> {
  if (target.virtualSize < source.size) {
    const text = `target '${target.storage.name}' of ${target.virtualSize} bytes is smaller than the source of ${source.size} bytes`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  const { metadata } = target;
  if (options.compress && metadata!.hasDataFile)
    throw new Qcow2Error('REFUSED', 'an image with an external data file cannot be compressed');
  const { header } = metadata!;
  const codecOptions = { compress: true, level: options.compressionLevel ?? 'default' } as const;
  const codec = options.compress
    ? await loadCodec(header.compressionType, options.kernel, codecOptions)
    : undefined;
  for (const image of source.images) await image.chain();
  const overwriter = new Overwriter(source, target, options, codec);
  await reserveMemory(source.images);
  await overwriter.run();
}

/** A part of the disk: a chunk that is read, or a gap, where no source holds anything. */
interface Part {
  start: number;
  end: number;
  isChunk: boolean;
}

/** A chunk that was read. */
interface Chunk {
  region: Region;
  /** Per unit 1: not to be written. */
  leave: Uint8Array | undefined;
}

class Overwriter {
  readonly #source: Source;
  readonly #target: Image;
  readonly #options: OverwriteOptions;
  readonly #codec: Codec | undefined;
  readonly #chunks: readonly [Chunk, Chunk];
  readonly #chunkBytes: number;
  readonly #bitmap: Region;
  readonly #stream: Region | undefined;
  /** Bytes of a unit that is all zeros or not. */
  readonly #unit: number;
  readonly #kinds: Uint8Array;
  readonly #plan = new Plan();

  constructor(source: Source, target: Image, options: OverwriteOptions, codec: Codec | undefined) {
    const { clusterSize, subclusterSize } = target.metadata!.geometry;
    const { arena } = options.kernel;
    const bytes = Math.max(CHUNK_BYTES, clusterSize);
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#codec = codec;
    this.#unit = codec ? clusterSize : subclusterSize;
    const chunk = (): Chunk => ({
      region: arena.allocate(bytes),
      leave: options.leavesToBacking ? new Uint8Array(bytes / this.#unit) : undefined,
    });
    this.#chunks = [chunk(), chunk()];
    this.#chunkBytes = bytes;
    this.#bitmap = arena.allocate(Math.ceil(bytes / this.#unit / 8) + 4);
    this.#stream = codec && arena.allocate(clusterSize);
    this.#kinds = new Uint8Array(bytes / this.#unit);
  }

  async run(): Promise<void> {
    const { signal, onProgress } = this.#options;
    const { size } = this.#source;
    const step = pacer(signal, 'the conversion');
    const digest = this.#options.digest && new DigestInOrder(this.#options.digest, step);
    const read = async ({ start, isChunk }: Part, chunk: Chunk): Promise<void> => {
      if (isChunk) await this.#read(start, chunk);
    };
    for await (const { piece, buffer } of readAhead(this.#parts(), this.#chunks, read)) {
      await step();
      const { start, end, isChunk } = piece;
      if (isChunk) await digest?.read(start, buffer.region.bytes.subarray(0, end - start));
      if (isChunk) await this.#write(start, end, buffer);
      else await this.#zero(start, end);
      await onProgress?.(end, size);
    }
    await digest?.skipTo(size);
    await onProgress?.(size, size);
  }

  /** The disk of the sources, in order; without the gaps that are left to the target's backing file. */
  async *#parts(): AsyncGenerator<Part> {
    const { leavesToBacking, sparseSize } = this.#options;
    const { size } = this.#source;
    const which = sparseSize === 0 ? 'all' : leavesToBacking ? 'overlay' : 'data';
    let done = 0;
    for await (const start of this.#source.chunks(this.#chunkBytes, which)) {
      if (start > done) yield* this.#gap(done, start);
      done = Math.min(start + this.#chunkBytes, size);
      yield { start, end: done, isChunk: true };
    }
    if (done < size) yield* this.#gap(done, size);
  }

  /** Where no source holds anything: zeros, or what the backing file has. */
  async *#gap(start: number, end: number): AsyncGenerator<Part> {
    if (!this.#options.leavesToBacking) {
      yield { start, end, isChunk: false };
      return;
    }
    // What the target holds itself there hides its backing file.
    const plan = new Plan();
    const chunkBytes = this.#chunkBytes;
    let next = start;
    for (let at = start; at < end; ) {
      at = await this.#target.map(at, end, plan);
      for (let i = 0; i < plan.count; i++) {
        if (!isOwn(plan, i)) continue;
        const first = Math.floor(plan.guest[i]! / chunkBytes) * chunkBytes;
        const to = plan.guest[i]! + plan.length[i]!;
        for (next = Math.max(next, first); next < to; next += chunkBytes)
          yield { start: next, end: Math.min(next + chunkBytes, end), isChunk: true };
      }
    }
  }

  #read(start: number, { region, leave }: Chunk): Promise<void> {
    return this.#source.read(start, region.bytes, leave ? this.#unit : 0, leave);
  }

  /** Writes what is to be written of a chunk. */
  async #write(start: number, end: number, { region, leave }: Chunk): Promise<void> {
    const unit = this.#unit;
    const units = Math.ceil((end - start) / unit);
    if (leave) await this.#takeOwn(start, end, leave);
    this.#classify(units, region, leave);
    for (let k = 0; k < units; ) {
      const kind = this.#kinds[k]!;
      let next = k + 1;
      while (next < units && this.#kinds[next] === kind) next++;
      const [from, to] = [start + k * unit, Math.min(start + next * unit, end)];
      if (kind === ZEROS) await this.#zero(from, to);
      else if (kind === DATA) await this.#store(region.bytes.subarray(from - start), from, to);
      k = next;
    }
  }

  /** What the target itself holds hides its backing file: it is written whatever the source does. */
  async #takeOwn(start: number, end: number, leave: Uint8Array): Promise<void> {
    for (let at = start; at < end; ) {
      at = await this.#target.map(at, end, this.#plan);
      const plan = this.#plan;
      for (let i = 0; i < plan.count; i++) {
        if (!isOwn(plan, i)) continue;
        const from = Math.floor((plan.guest[i]! - start) / this.#unit);
        const to = Math.ceil((plan.guest[i]! + plan.length[i]! - start) / this.#unit);
        leave.fill(0, from, to);
      }
    }
  }

  /** Tells zeros from data; short runs of zeros between data are data. */
  #classify(units: number, { ptr }: Region, leave: Uint8Array | undefined): void {
    const { sparseSize = 4096, kernel } = this.#options;
    const unit = this.#unit;
    const bits = this.#bitmap;
    kernel.exports.nonzero_bitmap(ptr, units * unit, Math.log2(unit), bits.ptr);
    const { bytes } = bits;
    const bit = (k: number): number => (bytes[k >> 3]! >> (k & 7)) & 1;
    for (let k = 0; k < units; ) {
      const isData = bit(k);
      let next = k + 1;
      while (next < units && bit(next) === isData) next++;
      const isShort = k > 0 && next < units && (next - k) * unit < sparseSize;
      this.#kinds.fill(isData || isShort || sparseSize === 0 ? DATA : ZEROS, k, next);
      k = next;
    }
    if (!leave) return;
    for (let k = 0; k < units; k++) if (leave[k] === 1) this.#kinds[k] = LEAVE;
  }

  async #zero(from: number, to: number): Promise<void> {
    if (this.#options.targetIsZero) return;
    await this.#target.writeZeroes(from, to - from, { unmap: true });
  }

  /** @param bytes begin at guest offset `from`, and may be more than are written */
  async #store(bytes: Uint8Array, from: number, to: number): Promise<void> {
    if (!this.#codec) return this.#target.write(from, bytes.subarray(0, to - from));
    const { clusterSize } = this.#target.metadata!.geometry;
    const room = this.#stream!.bytes.subarray(0, clusterSize - 1);
    for (let at = from; at < to; at += clusterSize) {
      const input = bytes.subarray(at - from, at - from + clusterSize);
      const isPart = at + clusterSize > to && to < this.#target.virtualSize;
      // What the target has behind the source's end stays.
      const length = isPart ? -1 : this.#codec.compress(input, room);
      if (length < 0) await this.#target.write(at, input.subarray(0, to - at));
      else {
        const stream = room.subarray(0, length);
        await this.#target.withWritable((disk) => disk.writeStream(at, stream));
      }
    }
  }
}

const ZEROS = 0;
const DATA = 1;
const LEAVE = 2;

/** Whether the image itself answers run `i`, not a file below it. */
function isOwn(plan: Plan, i: number): boolean {
  return plan.layer[i] === 0 && !isUnallocated(plan.kind[i]!);
}
