// Preloaded into every thread: reading a file whose name says "flaky" fails, the first times, with EIO;
// how often is told by a file beside it, so that all threads count together.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { openSync, readFileSync, writeFileSync } = fs;
fs.openSync = (path, ...rest) => {
  const name = String(path);
  if (/flaky[^/]*\.img$/.test(name)) {
    const left = Number(readFileSync(`${name}.left`, 'utf8'));
    if (left > 0) {
      writeFileSync(`${name}.left`, String(left - 1));
      throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    }
  }
  return openSync(path, ...rest);
};
syncBuiltinESMExports();
