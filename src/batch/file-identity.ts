import * as fs from 'node:fs';
import * as path from 'node:path';
import { ioError } from '../storage/file.ts';

/** What tells a file from what it was, or will be, at another time. */
export interface FileIdentity {
  /** Its path, absolute. */
  file: string;
  /** Length in bytes. */
  size: number;
  /** Of a local file the time of its last change in ns; of one on a server its ETag. */
  version: string;
}

/**
 * The identity of a local file.
 * @throws Qcow2Error NOT_FOUND, IO
 */
export function fileIdentity(file: string): FileIdentity {
  try {
    const { size, mtimeNs } = fs.statSync(file, { bigint: true });
    return { file: path.resolve(file), size: Number(size), version: String(mtimeNs) };
  } catch (cause) {
    throw ioError(cause, `Could not open '${file}'`, file);
  }
}

/** Whether a file is still what it was. */
export function isUnchanged({ file, size, version }: FileIdentity): boolean {
  const now = fs.statSync(file, { bigint: true, throwIfNoEntry: false });
  return now !== undefined && Number(now.size) === size && String(now.mtimeNs) === version;
}
