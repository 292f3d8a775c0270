import { Qcow2Error } from '../errors.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA_FILE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import { createKernel, type KernelBackend } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { hasBitmaps } from './bitmap-recorder.ts';
import type { HeaderState } from './header-state.ts';
import { type Metadata, readMetadata } from './metadata.ts';
import { repairImage } from './repair.ts';
import type { SyncedFile } from './synced-file.ts';

/**
 * Refuses images that must not be written (format section 4), when they are opened.
 * @throws Qcow2Error READ_ONLY: no `write`, or the image is marked corrupt
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
}

/**
 * Repairs an image that was not closed (format section 4): its counters and copied flags may be wrong,
 * and whoever writes relies on them. Returns its metadata as they are then.
 * @throws Qcow2Error REFUSED: they cannot be made right; those of `repairImage`
 */
export async function repairIfDirty(
  storage: Storage,
  metadata: Metadata,
  backend: KernelBackend | undefined,
): Promise<Metadata> {
  const isDirty = ({ header }: Metadata): boolean =>
    (header.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n;
  if (!isDirty(metadata)) return metadata;
  const { log } = await repairImage(storage, metadata, {
    mode: 'all',
    makeKernel: () => createKernel(backend === undefined ? {} : { backend }),
    maxFindings: 1,
    step: () => {},
  });
  const repaired = await readMetadata(storage);
  if (!isDirty(repaired)) return repaired;
  const why = log.unrepaired[0] ?? 'its reference counts cannot be made right';
  const text = `'${storage.name ?? 'storage'}' was not closed, and cannot be repaired (check -r all): ${why}`;
  const where = { structure: 'header incompatible_features', offset: 72 };
  throw new Qcow2Error('REFUSED', text, where);
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
