import { createHash } from 'node:crypto';
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checksum } from '../../src/node/checksum.ts';
import { openChain } from '../../src/node/open-image.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 2 ** 20;
const BLOCK = 2 * MIB;
let dir: string;

beforeAll(async () => {
  dir = makeTempDir('checksum');
  writeFileSync(join(dir, 'mixed.raw'), makeContent('mixed', 9 * MIB + 1536, 7));
  // Data in blocks 0, 5 and 6, a hole, zeros that are stored.
  const fd = openSync(join(dir, 'holes.raw'), 'w');
  for (const [at, seed] of [
    [0, 1],
    [11, 2],
    [13, 3],
  ] as const)
    writeSync(fd, makeContent('text', 100_000, seed), 0, 100_000, at * MIB);
  writeSync(fd, new Uint8Array(3 * MIB), 0, 3 * MIB, 4 * MIB);
  closeSync(fd);
  truncateSync(join(dir, 'holes.raw'), 40 * MIB);
  writeFileSync(join(dir, 'empty.raw'), '');
});
afterAll(() => removeTempDir(dir));

async function digest(name: string, algorithm: 'sha256' | 'sha256-sparse'): Promise<string> {
  const image = await openChain(join(dir, name), { sync: true });
  try {
    return await checksum(image, { algorithm });
  } finally {
    await image.close();
  }
}

/** The definition, word by word, over all bytes. */
function sparseOf(disk: Buffer): string {
  const sha = (...parts: Uint8Array[]): Buffer =>
    createHash('sha256').update(Buffer.concat(parts)).digest();
  const zero = Buffer.alloc(32);
  let level: Buffer[] = [];
  for (let at = 0; at < disk.length || level.length === 0; at += BLOCK) {
    const block = Buffer.alloc(BLOCK);
    disk.copy(block, 0, at, at + BLOCK);
    level.push(block.every((byte) => byte === 0) ? zero : sha(Buffer.of(0), block));
  }
  while (!Number.isInteger(Math.log2(level.length))) level.push(zero);
  while (level.length > 1)
    level = Array.from({ length: level.length / 2 }, (_, i) => {
      const [left, right] = [level[2 * i]!, level[2 * i + 1]!];
      return left.equals(zero) && right.equals(zero) ? zero : sha(Buffer.of(1), left, right);
    });
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(disk.length));
  return sha(Buffer.from('qcow2 sha256-sparse 1\n'), size, level[0]!).toString('hex');
}

async function bytesOf(name: string): Promise<Buffer> {
  const { readFile } = await import('node:fs/promises');
  return readFile(join(dir, name));
}

describe.each(['mixed', 'holes', 'empty'])('the digests of %s', (name) => {
  it('are those of their definitions', async () => {
    const bytes = await bytesOf(`${name}.raw`);
    const plain = createHash('sha256').update(bytes).digest('hex');
    expect(await digest(`${name}.raw`, 'sha256')).toBe(plain);
    expect(await digest(`${name}.raw`, 'sha256-sparse')).toBe(sparseOf(bytes));
  });

  it('do not depend on the format', async () => {
    const { size: _, ...options } = {
      size: 0,
      compressed: ['-c'],
      small: ['-o', 'cluster_size=4k'],
    };
    for (const [kind, words] of Object.entries(options)) {
      const target = `${name}-${kind}.qcow2`;
      const args = ['convert', '-f', 'raw', '-O', 'qcow2', ...words, `${name}.raw`, target];
      await runOk('qemu-img', args, dir);
      for (const algorithm of ['sha256', 'sha256-sparse'] as const)
        expect(await digest(target, algorithm)).toBe(await digest(`${name}.raw`, algorithm));
    }
  });
});

describe('the digest of a disk', () => {
  it('changes with its length and with any byte', async () => {
    const bytes = await bytesOf('holes.raw');
    writeFileSync(join(dir, 'changed.raw'), bytes);
    truncateSync(join(dir, 'changed.raw'), bytes.length + 512);
    const longer = await digest('changed.raw', 'sha256-sparse');
    bytes[39 * MIB] = 1;
    writeFileSync(join(dir, 'changed.raw'), bytes);
    const other = await digest('changed.raw', 'sha256-sparse');
    const before = await digest('holes.raw', 'sha256-sparse');
    expect(new Set([before, longer, other]).size).toBe(3);
  });

  it('takes no time for terabytes of zeros', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'huge.qcow2', '200T'], dir);
    await runOk('qemu-io', ['-c', 'write -P 1 150T 64k', 'huge.qcow2'], dir);
    const began = performance.now();
    expect(await digest('huge.qcow2', 'sha256-sparse')).toMatch(/^[0-9a-f]{64}$/);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('of several disks is that of one made of them; of a range, of that', async () => {
    const images = [];
    for (const name of ['holes.raw', 'mixed.raw'])
      images.push(await openChain(join(dir, name), { sync: true }));
    const joined = Buffer.concat([await bytesOf('holes.raw'), await bytesOf('mixed.raw')]);
    for (const range of [undefined, { offset: 3 * MIB + 512, length: 41 * MIB }]) {
      const { offset = 0, length = joined.length } = range ?? {};
      const part = joined.subarray(offset, offset + length);
      expect(await checksum(images, { algorithm: 'sha256-sparse', range })).toBe(sparseOf(part));
      const plain = createHash('sha256').update(part).digest('hex');
      expect(await checksum(images, { algorithm: 'sha256', range })).toBe(plain);
    }
    for (const image of images) await image.close();
  });

  it('reports progress, obeys a signal, and refuses what it does not know', async () => {
    const image = await openChain(join(dir, 'holes.raw'), { sync: true });
    const steps: number[] = [];
    const onProgress = (done: number) => void steps.push(done);
    await checksum(image, { algorithm: 'sha256', onProgress });
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    expect([steps[0], steps.at(-1)]).toEqual([0, 40 * MIB]);
    const signal = AbortSignal.abort();
    const failed = (options: object) =>
      checksum(image, { algorithm: 'sha256', ...options }).catch(({ code }) => code);
    expect(await failed({ signal })).toBe('ABORTED');
    expect(await failed({ algorithm: 'md5' })).toBe('INVALID_ARGUMENT');
    await image.close();
  });
});
