import { createWriteStream, existsSync, readFileSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeStream } from 'node:stream/web';
import {
  DiskChain,
  DiskLargerBlock,
  DiskSmallerBlock,
  RandomAccessDisk,
  RandomDiskPassthrough,
  RawDisk,
  ReadAhead,
} from '@xen-orchestra/disk-transform';
import { QCowAccessor, QcowStream, toQcow2Stream } from '@xen-orchestra/qcow2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BlockDisk, type BlockDiskOptions } from '../../src/adapters/block-disk.ts';
import { randomAccessDisk } from '../../src/adapters/random-access-disk.ts';
import { openImage } from '../../src/node/open-image.ts';
import { toReadable } from '../../src/operations/stream.ts';
import { makeImage } from '../oracle/images.ts';
import { IMAGE } from '../oracle/recipes/recipe.ts';
import { requireOracle } from '../oracle/tools.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { kinds } from './kinds.ts';

class Passed extends RandomDiskPassthrough {
  openSource(): never {
    throw new Error('it was given');
  }
}

const root = makeTempDir('blocks');
const Qcow2Disk = randomAccessDisk(RandomAccessDisk);
/** Folder of each kind, and its disk as qemu-img reads it. */
const made = new Map<string, { dir: string; disk: Buffer }>();

beforeAll(async () => {
  await requireOracle(root);
  for (const kind of kinds) {
    const dir = await makeImage(kind, root);
    await runOk('qemu-img', ['convert', '-O', 'raw', IMAGE, 'expected.raw'], dir);
    made.set(kind.name, { dir, disk: readFileSync(join(dir, 'expected.raw')) });
  }
});
afterAll(() => removeTempDir(root));

/** Local files the way their readers ask for them. */
function localFiles(dir: string) {
  const files = new Map<number, FileHandle>();
  return {
    isEncrypted: false,
    async openFile(path: string): Promise<number> {
      const file = await open(join(dir, path));
      files.set(file.fd, file);
      return file.fd;
    },
    async closeFile(fd: number): Promise<void> {
      await files.get(fd)?.close();
      files.delete(fd);
    },
    async read(fd: number, buffer: Buffer, position: number) {
      const { bytesRead } = await files.get(fd)!.read(buffer, 0, buffer.length, position);
      return { bytesRead, buffer };
    },
    getSize: async (path: string) => statSync(join(dir, path)).size,
  };
}

/** Puts the blocks a disk says it has together; all else is zeros. */
async function gather(disk: RandomAccessDisk): Promise<Buffer> {
  const blockSize = disk.getBlockSize();
  const bytes = Buffer.alloc(disk.getVirtualSize());
  for (const index of disk.getBlockIndexes()) {
    const { data } = await disk.readBlock(index);
    data.copy(bytes, index * blockSize);
  }
  return bytes;
}

/** Their reader, with their chain and reader of raw files where there is a backing file. */
async function theirs(dir: string): Promise<Buffer> {
  const files = localFiles(dir) as unknown as ConstructorParameters<typeof RawDisk>[0];
  const image = new QCowAccessor(files, IMAGE);
  let disk: RandomAccessDisk = image;
  if (existsSync(join(dir, 'base.raw')))
    disk = new DiskChain({ disks: [new RawDisk(files, 'base.raw', 65536), image] });
  try {
    await disk.init();
    return await gather(disk);
  } finally {
    await disk.close();
  }
}

function ours(dir: string, options: BlockDiskOptions = {}): RandomAccessDisk {
  return new Qcow2Disk(async () => BlockDisk.open(await openImage(join(dir, IMAGE)), options));
}

async function oursGathered(dir: string, options?: BlockDiskOptions): Promise<Buffer> {
  const top = ours(dir, options);
  await top.init();
  const disk = top.isDifferencing() ? await DiskChain.openFromChild(top) : top;
  const bytes = await gather(disk);
  await disk.close();
  return bytes;
}

async function verdict(read: Promise<Buffer>, disk: Buffer): Promise<string> {
  try {
    return (await read).equals(disk) ? 'right' : '**wrong bytes**';
  } catch (error) {
    return `error: ${(error as Error).message.replace(/\d+/g, 'N')}`;
  }
}

const manifest = createRequire(import.meta.url)('@xen-orchestra/qcow2/package.json');

describe('beside @xen-orchestra/qcow2', () => {
  test('its published package imports @vates/read-chunk without depending on it', () => {
    // It is one of our development dependencies, so that the comparison can run.
    expect(manifest.dependencies['@vates/read-chunk']).toBeUndefined();
  });

  test('every kind of image is read as qemu-img reads it; theirs as the table tells', async () => {
    const rows: string[] = [];
    for (const [name, { dir, disk }] of made) {
      const own = await verdict(oursGathered(dir), disk);
      expect(own, name).toBe('right');
      rows.push(`| ${name} | ${await verdict(theirs(dir), disk)} | ${own} |`);
    }
    const head = `| image | @xen-orchestra/qcow2 ${manifest.version} | qcow2/blocks |\n|---|---|---|`;
    await expect(`${head}\n${rows.join('\n')}\n`).toMatchFileSnapshot('./xen-orchestra.md');
  });
});

describe('in the pipelines of @xen-orchestra/disk-transform', () => {
  test('a disk becomes a qcow2 stream of theirs, clean and the same', async () => {
    for (const [name, { dir }] of made) {
      const disk = ours(dir, { differencing: false });
      await disk.init();
      const stream = toQcow2Stream(disk);
      const { length } = stream as unknown as { length: number };
      const path = join(dir, 'theirs.out');
      await pipeline(stream, createWriteStream(path));
      expect(statSync(path).size, name).toBe(length);
      await runOk('qemu-img', ['check', '-q', '-f', 'qcow2', path], dir);
      await runOk('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', path, 'expected.raw'], dir);
    }
  });

  test('their reader that only goes forward takes our stream of any kind', async () => {
    for (const [name, { dir, disk }] of made) {
      const image = await openImage(join(dir, IMAGE));
      const { stream } = await toReadable(image, { format: 'qcow2' });
      const reader = new QcowStream(Readable.fromWeb(stream as NodeStream));
      await reader.init();
      const bytes = Buffer.alloc(reader.getVirtualSize());
      for await (const { index, data } of reader.diskBlocks()) data.copy(bytes, index * 65536);
      expect(bytes.equals(disk), name).toBe(true);
      await image.close();
    }
  });

  test('blocks of other sizes, read ahead and passed through, are the same disk', async () => {
    for (const name of ['version 3', 'compressed, zstd', 'backing file, subclusters over it']) {
      const { dir, disk } = made.get(name)!;
      for (const wrap of [
        (inner: RandomAccessDisk) => new DiskLargerBlock(inner, 2 ** 21),
        (inner: RandomAccessDisk) => new Passed(inner),
        (inner: RandomAccessDisk) => new DiskSmallerBlock(inner, 4096),
      ]) {
        const inner = ours(dir, { differencing: false });
        await inner.init();
        const outer = wrap(inner);
        const ahead = new ReadAhead(outer as RandomAccessDisk);
        const bytes = Buffer.alloc(ahead.getVirtualSize());
        for await (const { index, data } of ahead.diskBlocks())
          data.copy(bytes, index * ahead.getBlockSize());
        expect(bytes.equals(disk), name).toBe(true);
      }
    }
  });

  test('a chain opened from a differencing disk has its parents', async () => {
    const { dir, disk } = made.get('backing file, zero clusters over it')!;
    for (const blockSize of [4096, 65536, 2 ** 20])
      expect((await oursGathered(dir, { blockSize })).equals(disk)).toBe(true);
  });
});
