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
  await new Overwriter(source, target, options, codec).run();
}

class Overwriter {
  readonly #source: Source;
  readonly #target: Image;
  readonly #options: OverwriteOptions;
  readonly #codec: Codec | undefined;
  readonly #chunk: Region;
  readonly #bitmap: Region;
  readonly #stream: Region | undefined;
  /** Bytes of a unit that is all zeros or not. */
  readonly #unit: number;
  /** Per unit of a chunk 1: not to be written. */
  readonly #leave: Uint8Array | undefined;
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
    this.#chunk = arena.allocate(bytes);
    this.#bitmap = arena.allocate(Math.ceil(bytes / this.#unit / 8) + 4);
    this.#stream = codec && arena.allocate(clusterSize);
    this.#kinds = new Uint8Array(bytes / this.#unit);
    if (options.leavesToBacking) this.#leave = new Uint8Array(bytes / this.#unit);
  }

  async run(): Promise<void> {
    const { signal, onProgress, leavesToBacking, sparseSize } = this.#options;
    const { size } = this.#source;
    const chunkBytes = this.#chunk.length;
    const step = pacer(signal, 'the conversion');
    const which = sparseSize === 0 ? 'all' : leavesToBacking ? 'overlay' : 'data';
    let done = 0;
    for await (const start of this.#source.chunks(chunkBytes, which)) {
      await step();
      if (start > done) await this.#gap(done, start, step);
      await this.#copy(start);
      done = Math.min(start + chunkBytes, size);
      await onProgress?.(done, size);
    }
    if (done < size) await this.#gap(done, size, step);
    await onProgress?.(size, size);
  }

  /** Where no source holds anything: zeros, or what the backing file has. */
  async #gap(start: number, end: number, step: () => void | Promise<void>): Promise<void> {
    if (!this.#options.leavesToBacking) return this.#zero(start, end);
    const chunkBytes = this.#chunk.length;
    for (let at = start; at < end; ) {
      await step();
      const reached = await this.#target.map(at, end, this.#plan);
      const plan = this.#plan;
      const chunks = new Set<number>();
      for (let i = 0; i < plan.count; i++) {
        if (!isOwn(plan, i)) continue;
        const last = plan.guest[i]! + plan.length[i]! - 1;
        const first = Math.floor(plan.guest[i]! / chunkBytes);
        for (let chunk = first; chunk <= Math.floor(last / chunkBytes); chunk++) chunks.add(chunk);
      }
      for (const chunk of chunks) await this.#copy(chunk * chunkBytes);
      at = reached;
    }
  }

  /** Reads a chunk and writes what is to be written of it. */
  async #copy(start: number): Promise<void> {
    const unit = this.#unit;
    const end = Math.min(start + this.#chunk.length, this.#source.size);
    const units = Math.ceil((end - start) / unit);
    await this.#source.read(start, this.#chunk.bytes, this.#leave ? unit : 0, this.#leave);
    if (this.#leave) await this.#takeOwn(start, end, this.#leave);
    this.#classify(units);
    for (let k = 0; k < units; ) {
      const kind = this.#kinds[k]!;
      let next = k + 1;
      while (next < units && this.#kinds[next] === kind) next++;
      const [from, to] = [start + k * unit, Math.min(start + next * unit, end)];
      if (kind === ZEROS) await this.#zero(from, to);
      else if (kind === DATA) await this.#write(start, from, to);
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
  #classify(units: number): void {
    const { sparseSize = 4096, kernel } = this.#options;
    const unit = this.#unit;
    const bits = this.#bitmap;
    kernel.exports.nonzero_bitmap(this.#chunk.ptr, units * unit, Math.log2(unit), bits.ptr);
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
    if (!this.#leave) return;
    for (let k = 0; k < units; k++) if (this.#leave[k] === 1) this.#kinds[k] = LEAVE;
  }

  async #zero(from: number, to: number): Promise<void> {
    if (this.#options.targetIsZero) return;
    await this.#target.writeZeroes(from, to - from, { unmap: true });
  }

  async #write(start: number, from: number, to: number): Promise<void> {
    const bytes = this.#chunk.bytes.subarray(from - start, to - start);
    if (!this.#codec) return this.#target.write(from, bytes);
    const { clusterSize } = this.#target.metadata!.geometry;
    const room = this.#stream!.bytes.subarray(0, clusterSize - 1);
    for (let at = from; at < to; at += clusterSize) {
      const input = this.#chunk.bytes.subarray(at - start, at - start + clusterSize);
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
