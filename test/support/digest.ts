import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const CHUNK = 1 << 20;

/** SHA-256 of a file's bytes, in hexadecimal. Holes count as zeros. */
export function sha256File(path: string): string {
  const hash = createHash('sha256');
  const chunk = new Uint8Array(CHUNK);
  const file = openSync(path, 'r');
  try {
    for (;;) {
      const length = readSync(file, chunk);
      if (length === 0) return hash.digest('hex');
      hash.update(chunk.subarray(0, length));
    }
  } finally {
    closeSync(file);
  }
}

/** SHA-256 of the first `length` bytes of a file, zeros standing in for what lies past its end. */
export function sha256Padded(path: string, length: number): string {
  const bytes = new Uint8Array(length);
  bytes.set(readFileSync(path).subarray(0, length));
  return createHash('sha256').update(bytes).digest('hex');
}

/** The offset of the first byte in which two files differ, or -1 when they are the same. */
export function firstDifference(left: string, right: string): number {
  const a = readFileSync(left);
  const b = readFileSync(right);
  if (a.equals(b)) return -1;
  const common = Math.min(a.length, b.length);
  for (let at = 0; at < common; at += 1) if (a[at] !== b[at]) return at;
  return common;
}
