import type { DeflateLevel } from '../codecs/deflate.ts';
import { Qcow2Error } from '../errors.ts';
import { Image } from '../image/image.ts';
import type { NewImageOptions } from '../image/new-image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { type DiskRange, Source } from './chunks.ts';
import { type OperationControl, throwIfAborted } from './control.ts';
import { type ChunkPacker, planCompressed } from './stream-compressed.ts';
import { type NewPiece, type PlannedStream, StreamSteps } from './stream-parts.ts';
import { planPlain } from './stream-plain.ts';
import { planRaw } from './stream-raw.ts';

/** What a streamed image is to be like. */
export interface ReadableOptions extends OperationControl {
  format: 'raw' | 'qcow2';
  /**
   * Of the new qcow2 image, which is as long as the source. There is no external data file and no
   * preallocation.
   */
  create?: Omit<NewImageOptions, 'size' | 'dataFile' | 'dataFileRaw' | 'preallocation'>;
  /** Copy this part of the disk only; what lies behind the disk's end does not count. */
  range?: DiskRange | undefined;
  /** Compress every cluster that shrinks; the disk is read and compressed twice. */
  compress?: boolean;
  /** How hard deflate tries; zstd has one level. Default `default`. */
  compressionLevel?: DeflateLevel;
  /**
   * Clusters of zeros of an uncompressed qcow2 image: those the source's map tells of are left out
   * (`mapped`, the default), or `found` by reading the disk once more, or all are `stored`. With
   * `compress` all are found unless they are `stored`.
   */
  zeros?: 'mapped' | 'found' | 'stored';
  /** Copy what the source's backing files hold, too, although the new image has a backing file. */
  copyBacking?: boolean;
  /** Holds the buffers; see `ConvertOptions.kernel`. */
  kernel?: Kernel;
  /**
   * Where large pieces come from, so that they can be used again; default new memory.
   * @internal
   */
  newPiece?: NewPiece;
  /**
   * Compresses; default on the calling thread.
   * @internal
   */
  packer?: ChunkPacker | undefined;
}

/** An image on its way. */
export interface ReadableImage {
  /** How many bytes will come, exactly. */
  readonly length: number;
  /** The image, front to back, as it is asked for. */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
}

/**
 * Gives the disk of an image, or of several one after the other, as a stream of a raw or qcow2 image,
 * whose length is known before the first byte. An uncompressed qcow2 image has all metadata in front
 * and takes at most what `measure` says. Memory stays bounded: a piece of 2 MiB, and a bit for each
 * cluster or, with `compress`, 8 bytes for each L2 table. The images stay open and must not change
 * meanwhile; when reading fails, the stream does, and what it gave is not an image.
 * @throws Qcow2Error INVALID_ARGUMENT, REFUSED, TOO_LARGE, ABORTED, and whatever mapping (with
 *   `compress` or `found`: reading) the disk throws; the stream fails with the same ones
 * @example
 * import { createWriteStream } from 'node:fs';
 * import { Writable } from 'node:stream';
 * import { openImage, toReadable } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2');
 * const { length, stream } = await toReadable(image, { format: 'qcow2' });
 * console.log(`Content-Length: ${length}`);
 * await stream.pipeTo(Writable.toWeb(createWriteStream('copy.qcow2')));
 * await image.close();
 */
export async function toReadable(
  images: Image | readonly Image[],
  options: ReadableOptions,
): Promise<ReadableImage> {
  const planned = await planStream(images, options);
  const pieces = planned.pieces();
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const { done, value } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await pieces.return();
      },
    },
    { highWaterMark: 0 },
  );
  return { length: planned.length, stream };
}

/**
 * What `toReadable` gives, as an iterable.
 * @throws Qcow2Error as `toReadable`
 * @internal
 */
export async function planStream(
  images: Image | readonly Image[],
  options: ReadableOptions,
): Promise<PlannedStream> {
  const { format, compress = false, zeros = 'mapped', kernel = createKernel() } = options;
  throwIfAborted(options.signal, 'the conversion');
  const source = new Source(images instanceof Image ? [images] : images, options.range);
  const twice = format === 'qcow2' && (compress || zeros === 'found');
  const steps = new StreamSteps(options, source.size, twice ? 2 : 1, options.newPiece);
  if (format === 'raw') {
    if (compress) throw new Qcow2Error('REFUSED', 'raw images cannot be compressed');
    return planRaw(source, source.size, steps);
  }
  const create: NewImageOptions = { ...options.create, size: source.size };
  requireOneFile(create);
  const hasBacking = (create.backingFile ?? '') !== '';
  const leavesToBacking = hasBacking && options.copyBacking !== true;
  if (!compress)
    return planPlain(source, create, { zeros, hasBacking, leavesToBacking }, kernel, steps);
  const { compressionLevel: level = 'default' } = options;
  const rules = { dense: zeros === 'stored', hasBacking, leavesToBacking, level };
  return planCompressed(source, create, rules, kernel, steps, options.packer);
}

function requireOneFile({ dataFile, dataFileRaw, preallocation = 'off' }: NewImageOptions): void {
  if (dataFile !== undefined || dataFileRaw)
    throw new Qcow2Error('REFUSED', 'a streamed image cannot have an external data file');
  if (preallocation === 'off') return;
  throw new Qcow2Error('REFUSED', 'a streamed image cannot be preallocated: write it to a file');
}
