import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import * as path from 'node:path';

/** The paths opened since `openedFiles`, as they really are. */
export interface OpenedFiles {
  readonly paths: readonly string[];
  stop(): void;
}

/** Records the files this process opens through node:fs, until stopped. */
export function openedFiles(): OpenedFiles {
  const paths: string[] = [];
  const { openSync, open, readFileSync } = fs;
  const note = (name: unknown): void => {
    if (typeof name !== 'string') return;
    try {
      paths.push(fs.realpathSync.native(name));
    } catch {
      paths.push(path.resolve(name));
    }
  };
  fs.openSync = (...args: Parameters<typeof openSync>) => {
    note(args[0]);
    return openSync(...args);
  };
  fs.open = ((...args: Parameters<typeof open>) => {
    note(args[0]);
    open(...args);
  }) as typeof open;
  fs.readFileSync = ((...args: Parameters<typeof readFileSync>) => {
    note(args[0]);
    return readFileSync(...args);
  }) as typeof readFileSync;
  syncBuiltinESMExports();
  return {
    paths,
    stop() {
      Object.assign(fs, { openSync, open, readFileSync });
      syncBuiltinESMExports();
    },
  };
}
