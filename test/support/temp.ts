import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes a fresh folder below the system's temporary folder and returns its real path. */
export function makeTempDir(label: string): string {
  return realpathSync(mkdtempSync(join(tmpdir(), `qcow2-${label}-`)));
}

/**
 * The same in memory, where the system has such a place: for many small files that programs look at
 * for a moment.
 */
export function makeMemoryDir(label: string): string {
  const memory = '/dev/shm';
  return existsSync(memory) ? mkdtempSync(join(memory, `qcow2-${label}-`)) : makeTempDir(label);
}

/** Removes a folder made by {@link makeTempDir} with all it holds. */
export function removeTempDir(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
