import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes a fresh folder below the system's temporary folder and returns its real path. */
export function makeTempDir(label: string): string {
  return realpathSync(mkdtempSync(join(tmpdir(), `qcow2-${label}-`)));
}

/** Removes a folder made by {@link makeTempDir} with all it holds. */
export function removeTempDir(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
