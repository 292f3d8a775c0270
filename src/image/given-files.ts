import { type ImageSource, isImageSource, storageOf } from '../storage/source.ts';
import type { GivenFiles } from './backing-chain.ts';

/** Files the caller supplies in place of those an image names. They are closed with the image. */
export interface GivenSources {
  /** What the image is. Absent: what its overlay records, or probed by its first bytes. */
  format?: 'qcow2' | 'raw';
  /** The external data file, if the image has one. */
  dataFile?: ImageSource;
  /** The backing file; a {@link BackingSource} where more is to be said of it. */
  backingFile?: ImageSource | BackingSource;
}

/** A backing file the caller supplies, with what lies below it. */
export interface BackingSource extends GivenSources {
  source: ImageSource;
}

/**
 * The storages over given sources.
 * @throws Qcow2Error those of `storageOf`; nothing is open then
 */
export async function givenFiles(sources: GivenSources): Promise<GivenFiles> {
  const { format, dataFile, backingFile } = sources;
  const given: GivenFiles = {};
  if (format !== undefined) given.format = format;
  try {
    if (dataFile !== undefined) given.dataFile = await storageOf(dataFile);
    if (backingFile === undefined) return given;
    const below = isImageSource(backingFile) ? { source: backingFile } : backingFile;
    given.backingFile = { storage: await storageOf(below.source) };
    Object.assign(given.backingFile, await givenFiles(below));
    return given;
  } catch (error) {
    await closeGiven(given);
    throw error;
  }
}

/** Closes given files; the chain they are meant for may never have been opened. */
export async function closeGiven({ dataFile, backingFile }: GivenFiles): Promise<void> {
  await dataFile?.close();
  await backingFile?.storage.close();
  if (backingFile) await closeGiven(backingFile);
}
