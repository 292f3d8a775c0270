import { Qcow2Error } from '../errors.ts';
import {
  isMappedAhead,
  layOutImage,
  mostHostClusters,
  type NewImageLayout,
  type NewImageOptions,
} from '../image/new-image.ts';
import { NewImageFile } from '../image/new-image-file.ts';
import type { Qcow2WriterOptions } from '../image/qcow2-writer.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { Source, WantedChunks } from './chunks.ts';
import type { ChunkExecutor, ConvertOptions } from './convert-options.ts';
import { CHUNK_BYTES, type ConvertStepOptions } from './convert-step.ts';
import { type BitmapsToCopy, bitmapsToCopy } from './copy-bitmaps.ts';
import { createRaw, preallocate, requireDataStorage } from './create.ts';

/** A target that chunks can be written to. */
export interface PreparedTarget {
  step: ConvertStepOptions;
  which: WantedChunks;
  /** What is in no chunk becomes a hole. */
  punches?: boolean;
  file?: NewImageFile;
  bitmaps?: BitmapsToCopy | undefined;
}

/**
 * Lays out the target of a conversion, and what of the source is to be read for it.
 * @throws Qcow2Error INVALID_ARGUMENT, REFUSED, UNSUPPORTED, TOO_LARGE, and those of writing
 */
export async function prepareTarget(
  source: Source,
  storage: Storage,
  dataStorage: Storage | undefined,
  kernel: Kernel,
  options: ConvertOptions & { executor: ChunkExecutor },
): Promise<PreparedTarget> {
  const dense = options.sparseSize === 0;
  const size = options.create?.size ?? source.size;
  if (size < source.size) {
    const text = `target of ${size} bytes is smaller than the source of ${source.size} bytes`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  if (options.format === 'raw') {
    if (options.compress) throw new Qcow2Error('REFUSED', 'raw images cannot be compressed');
    if (options.bitmaps) throw noBitmaps('raw');
    return prepareRaw(source, storage, options);
  }
  const create = { ...options.create, size };
  requireDataStorage(create, dataStorage);
  if (options.compress && create.dataFile !== undefined)
    throw new Qcow2Error('REFUSED', 'an image with an external data file cannot be compressed');
  if (options.compress && isMappedAhead(create))
    throw new Qcow2Error('REFUSED', 'preallocated clusters cannot be compressed');
  const bitmaps = await bitmapsFor(source, options, create);
  const layout = layOut(create, bitmaps);
  const file = new NewImageFile(storage, layout, kernel, options.executor.sharesState);
  await dataStorage?.truncate?.(layout.header.size);
  const { geometry } = layout;
  const chunkBytes = Math.max(CHUNK_BYTES, geometry.clusterSize);
  const hasBacking = layout.backingFile !== '';
  const writer: Qcow2WriterOptions = {
    geometry,
    version: layout.header.version,
    size: layout.header.size,
    l1TableOffset: layout.header.l1TableOffset,
    dataFile: create.dataFile !== undefined,
    mappedAhead: isMappedAhead(create),
    hasBacking,
    dense,
    chunkBytes,
  };
  if (writer.mappedAhead) await preallocate(file, create, storage, dataStorage, options.signal);
  const compressionType = options.compress ? layout.header.compressionType : null;
  const { compressionLevel = 'default' } = options;
  const which = dense ? 'all' : hasBacking ? 'overlay' : 'data';
  return {
    step: {
      chunkBytes,
      target: {
        format: 'qcow2',
        writer,
        compressionType,
        compressionLevel,
        leavesToBacking: hasBacking,
      },
    },
    which,
    file,
    bitmaps,
  };
}

/** The bitmaps to copy, if that was asked for. */
async function bitmapsFor(
  source: Source,
  { bitmaps }: ConvertOptions,
  create: NewImageOptions,
): Promise<BitmapsToCopy | undefined> {
  if (bitmaps === undefined) return undefined;
  if (create.compat === '0.10') throw noBitmaps('qcow2');
  const { geometry, header } = layOutImage(create, 0);
  return bitmapsToCopy(source.images, header.size, geometry, bitmaps);
}

/** Room for the bitmaps: their tables and directory lie in the head. */
function layOut(create: NewImageOptions, bitmaps: BitmapsToCopy | undefined): NewImageLayout {
  if (bitmaps === undefined) return layOutImage(create, mostHostClusters(create));
  const { tableClusters, directoryClusters, dataClusters } = bitmaps;
  const head = tableClusters.reduce((sum, clusters) => sum + clusters, directoryClusters);
  return layOutImage(create, mostHostClusters(create, head + dataClusters), head);
}

function noBitmaps(format: string): Qcow2Error {
  const text = `Format driver '${format}' does not support bitmaps`;
  return new Qcow2Error('UNSUPPORTED', format === 'raw' ? text : `${text} with compat=0.10`);
}

async function prepareRaw(
  source: Source,
  storage: Storage,
  options: ConvertOptions,
): Promise<PreparedTarget> {
  const { overwrite = false } = options;
  const punches = overwrite && options.sparseSize !== 0 && storage.punchHole !== undefined;
  const dense = options.sparseSize === 0 || (overwrite && !punches);
  const size = options.create?.size ?? source.size;
  const { create, signal } = options;
  if (size > storage.size) await createRaw(storage, size, create?.preallocation, signal);
  const minimumHole = dense ? 0 : (options.sparseSize ?? 4096);
  // What is to have space of its own shares none.
  const mayShare = !dense && !overwrite && (create?.preallocation ?? 'off') === 'off';
  const shares = mayShare && (await canShare(source, storage));
  const step: ConvertStepOptions = {
    chunkBytes: CHUNK_BYTES,
    target: { format: 'raw', size: source.size, minimumHole, punches, shares },
  };
  return { step, which: dense ? 'all' : 'data', punches };
}

/** Whether the target can share what the source's files hold: tried with the first data there is. */
async function canShare(source: Source, storage: Storage): Promise<boolean> {
  if (storage.copyRange === undefined) return false;
  for await (const start of source.chunks(CHUNK_BYTES, 'data'))
    return source.share(start, CHUNK_BYTES, storage);
  return false;
}
