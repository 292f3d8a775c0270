// Preloaded into every thread: one that opens a file whose name says "deadly" ends at once.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const { openSync } = fs;
fs.openSync = (path, ...rest) => {
  if (!isMainThread && String(path).includes('deadly')) process.exit(9);
  return openSync(path, ...rest);
};
syncBuiltinESMExports();
