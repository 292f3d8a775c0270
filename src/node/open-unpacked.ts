import { existsSync } from 'node:fs';
import { Qcow2Error } from '../errors.ts';
import { shownName } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';
import { type OpenStorageOptions, openStorage } from './open-storage.ts';
import { isPackedAs, packingByName } from './packing.ts';

/**
 * Opens what a caller named, if it is an image as it is. Of a packed file hardly anybody means the packed
 * bytes: who does says so with the format.
 * @param format as the caller says
 * @throws Qcow2Error REFUSED: it is packed; those of `openStorage`
 */
export async function openUnpacked(
  file: string,
  format: 'qcow2' | 'raw' | undefined,
  options: OpenStorageOptions,
): Promise<Storage> {
  requireNoInput(file);
  const storage = await openStorage(file, options);
  const packing = format === undefined ? packingByName(file) : undefined;
  try {
    if (packing === undefined || !(await isPackedAs(storage, packing))) return storage;
    const text = `Could not open '${shownName(file)}': it is packed with ${packing}, which is undone by convert and batch alone: unpack it first, or take its bytes as they are as format raw (-f raw)`;
    throw new Qcow2Error('REFUSED', text, { file: shownName(file) });
  } catch (error) {
    await storage.close();
    throw error;
  }
}

/** @throws Qcow2Error NOT_FOUND: standard input is meant, which must be read in any order here */
export function requireNoInput(file: string): void {
  if (file !== '-' || existsSync(file)) return;
  const text =
    "Could not open '-': No such file or directory; convert alone reads standard input: write it to a file first";
  throw new Qcow2Error('NOT_FOUND', text, { file });
}
