import { Qcow2Error } from '../errors.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA_FILE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import type { Storage } from '../storage/storage.ts';
import { hasBitmaps } from './bitmap-recorder.ts';
import type { HeaderState } from './header-state.ts';
import type { Metadata } from './metadata.ts';
import type { SyncedFile } from './synced-file.ts';

/**
 * Refuses images that must not be written (format section 4), when they are opened.
 * @throws Qcow2Error READ_ONLY: no `write`, or the image is marked corrupt; REFUSED: its refcounts
 *   need a repair first
 */
export function requireWritable(storage: Storage, metadata: Metadata | undefined): void {
  const { name = 'storage' } = storage;
  requireWrite(storage);
  if (metadata === undefined) return;
  const { incompatibleFeatures: bits } = metadata.header;
  const where = { structure: 'header incompatible_features', offset: 72, value: bits };
  if ((bits & INCOMPATIBLE_CORRUPT) !== 0n) {
    const text = `'${name}' is marked corrupt and cannot be written: repair it first (check -r all)`;
    throw new Qcow2Error('READ_ONLY', text, where);
  }
  if ((bits & INCOMPATIBLE_DIRTY) !== 0n) {
    const text = `'${name}' was not closed and its reference counts may be wrong: repair it first (check -r all)`;
    throw new Qcow2Error('REFUSED', text, where);
  }
}

/**
 * Refuses a storage that only reads.
 * @throws Qcow2Error READ_ONLY
 */
export function requireWrite({ name = 'storage', write }: Storage): void {
  if (typeof write === 'function') return;
  const text = `'${name}' cannot be written: its storage has no write; open it from one that has`;
  throw new Qcow2Error('READ_ONLY', text, { file: name });
}

/**
 * Refuses a storage whose length cannot be set.
 * @throws Qcow2Error READ_ONLY
 */
export function requireTruncate({ name = 'storage', truncate }: Storage): void {
  if (typeof truncate === 'function') return;
  const text = `'${name}' cannot be resized: its storage has no truncate; open it from one that has`;
  throw new Qcow2Error('READ_ONLY', text, { file: name });
}

/**
 * Clears the autoclear bits of features that are not maintained here, durably, before anything else
 * is written (format section 4).
 */
export async function clearUnknownFeatures(file: SyncedFile, header: HeaderState): Promise<void> {
  const { autoclearFeatures } = header.header;
  const kept = AUTOCLEAR_RAW_DATA_FILE | (hasBitmaps(header) ? AUTOCLEAR_BITMAPS : 0n);
  if ((autoclearFeatures & ~kept) === 0n) return;
  await header.update({ autoclearFeatures: autoclearFeatures & kept });
  await file.sync();
}
