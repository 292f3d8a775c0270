import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Length and SHA-256 of what the command line's `convert` writes to standard output. */
export function digestOfStdout(
  args: readonly string[],
  cwd: string,
): Promise<{ bytes: number; sha256: string }> {
  const child = spawn(process.execPath, [MAIN, 'convert', ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const hash = createHash('sha256');
  let bytes = 0;
  child.stdout.on('data', (part: Buffer) => {
    hash.update(part);
    bytes += part.length;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve({ bytes, sha256: hash.digest('hex') });
      else reject(new Error(`convert ${args.join(' ')} ended with status ${status}`));
    });
  });
}
