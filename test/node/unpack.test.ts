import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { packingOf } from '../../src/node/packing.ts';
import { spillStorage } from '../../src/node/spill.ts';
import { unpacked } from '../../src/node/unpack.ts';
import { wholeFrames } from '../../src/node/zstd-frames.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const folder = makeTempDir('unpack');
afterAll(() => removeTempDir(folder));

const SKIPPABLE = new Uint8Array([0x57, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5]);

async function* pieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function gathered(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const list: Uint8Array[] = [];
  for await (const part of parts) list.push(part.slice());
  return Buffer.concat(list);
}

/** What the `zstd` tool makes of bytes. */
async function zstd(name: string, bytes: Uint8Array, ...options: string[]): Promise<Uint8Array> {
  writeFileSync(join(folder, name), bytes);
  await runOk('zstd', ['-q', '-f', ...options, name, '-o', `${name}.zst`], folder);
  return readFileSync(join(folder, `${name}.zst`));
}

describe('the frames of a zstd file', () => {
  it('are kept, whatever their shape, and those to be skipped are not', async () => {
    const small = makeContent('text', 3000);
    const shapes = [
      await zstd('small', small),
      await zstd('unchecked', small, '--no-check'),
      await zstd('unsized', small, '--no-content-size'),
      await zstd('mixed', makeContent('mixed', 700_000)),
      await zstd('zeros', new Uint8Array(400_000)),
      await zstd('empty', new Uint8Array(0)),
    ];
    for (const frame of shapes) {
      const file = Buffer.concat([SKIPPABLE, frame, SKIPPABLE, frame]);
      for (const length of [1, 7, file.length])
        expect(await gathered(wholeFrames(pieces(file, length), 'x'))).toEqual(
          Buffer.concat([frame, frame]),
        );
    }
  });

  it('that end early, or in something else, are told', async () => {
    const frame = await zstd('cut', makeContent('mixed', 3000));
    const file = Buffer.concat([SKIPPABLE, frame]);
    for (let length = 1; length < file.length; length++) {
      const result = gathered(wholeFrames(pieces(file.subarray(0, length), 100), 'x'));
      if (length === SKIPPABLE.length) await expect(result).resolves.toHaveLength(0);
      else await expect(result, `${length}`).rejects.toMatchObject({ code: 'TRUNCATED' });
    }
    const garbage = Buffer.concat([frame, Buffer.from('more')]);
    await expect(gathered(wholeFrames(pieces(garbage, 100), 'x'))).rejects.toMatchObject({
      code: 'BAD_DATA',
    });
  });

  it('are known by their first bytes', async () => {
    expect(packingOf(await zstd('magic', new Uint8Array(5)))).toBe('zstd');
    expect(packingOf(SKIPPABLE)).toBe('zstd');
    expect(packingOf(new Uint8Array(512))).toBeUndefined();
  });

  it('are unpacked where Node can, and refused where not', async () => {
    const disk = makeContent('mixed', 700_000);
    const storage = new MemoryStorage(await zstd('disk', disk), 'disk.zst');
    const result = gathered(unpacked(storage, 'zstd'));
    if ('createZstdDecompress' in zlib) expect((await result).equals(disk)).toBe(true);
    else await expect(result).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('gzip files', () => {
  it('one behind the other are all unpacked, wherever a piece of input ends', async () => {
    const first = zlib.gzipSync(makeContent('random', 256 * 1024 - 100), { level: 0 });
    for (const more of [0, 1, 40, 77, 78, 79]) {
      const parts = [first, zlib.gzipSync(makeContent('random', more)), zlib.gzipSync('end')];
      const packed = new MemoryStorage(Buffer.concat(parts), 'x.gz');
      const found = await gathered(unpacked(packed, 'gzip'));
      expect(found.length).toBe(256 * 1024 - 100 + more + 3);
    }
  });
});

describe('bytes that are kept to be read in any order', () => {
  const bytes = makeContent('mixed', 3 << 20, 7);

  it.each([
    ['memory', { memoryBytes: bytes.length }],
    ['a file', { memoryBytes: 100_000, folder }],
    ['a file from the first byte', { memoryBytes: 0, folder }],
  ])('in %s', async (_, options) => {
    const before = readdirSync(folder).length;
    const storage = await spillStorage(pieces(bytes, 70_001), options);
    expect(storage.size).toBe(bytes.length);
    expect(readdirSync(folder).length).toBe(before);
    const into = new Uint8Array(bytes.length);
    expect(await storage.read(0, into)).toBe(bytes.length);
    expect(Buffer.compare(into, bytes)).toBe(0);
    await storage.close();
  });

  it('are too many without a folder, and given up', async () => {
    let isClosed = false;
    const source = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(1000)),
      cancel: () => {
        isClosed = true;
      },
    });
    await expect(spillStorage(source, { memoryBytes: 5000 })).rejects.toMatchObject({
      code: 'TOO_LARGE',
    });
    expect(isClosed).toBe(true);
  });

  it('are waited for until that is aborted', async () => {
    const source = new ReadableStream<Uint8Array>({});
    const signal = AbortSignal.timeout(20);
    await expect(spillStorage(source, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

it('an xz file can be given up at any moment, also as it ends', async () => {
  writeFileSync(join(folder, 'given-up'), makeContent('text', 1000));
  await runOk('xz', ['-0', '-k', 'given-up'], folder);
  const storage = new MemoryStorage(readFileSync(join(folder, 'given-up.xz')), 'given-up.xz');
  const waits = [
    () => Promise.resolve(),
    () => new Promise<void>((resolve) => process.nextTick(resolve)),
    () => new Promise<void>((resolve) => setImmediate(resolve)),
  ];
  for (const wait of waits)
    for (let times = 0; times < 12; times++) {
      const parts = unpacked(storage, 'xz');
      expect((await parts.next()).done).toBe(false);
      for (let i = 0; i < times; i++) await wait();
      await parts.return(undefined);
      await waits[2]!();
    }
});
