import { describe, expect, test } from 'vitest';
import {
  BlobStorage,
  check,
  compare,
  convert,
  create,
  Image,
  type ImageSource,
  isQcow2Error,
  MemoryStorage,
  map,
  measure,
  type OperationControl,
  type Storage,
} from '../../src/index.ts';
import { convertFile, createFile } from '../../src/node.ts';
import { makeContent } from '../support/data.ts';

const MIB = 1 << 20;
const content = makeContent('mixed', 9 * MIB, 3);

/** The content as a qcow2 image. */
async function packed(): Promise<Uint8Array> {
  const target = new MemoryStorage();
  const image = await Image.open(content, { format: 'raw' });
  await convert(image, target, { format: 'qcow2' });
  return target.bytes.slice();
}

/** An empty overlay of that size. */
async function overlay(backingFile: string): Promise<Uint8Array> {
  const target = new MemoryStorage();
  const size = content.length;
  await create(target, { format: 'qcow2', size, backingFile, backingFormat: 'qcow2' });
  return target.bytes.slice();
}

async function contentOf(image: Image): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.virtualSize);
  await image.read(0, bytes);
  await image.close();
  return bytes;
}

function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (isQcow2Error(error) ? error.code : String(error)),
  );
}

/** A storage that counts how often it was closed. */
class Counted extends MemoryStorage {
  closed = 0;

  override close(): void {
    this.closed++;
  }
}

describe('a source', () => {
  const disk = packed();
  const copy = async (): Promise<ArrayBuffer> => new Uint8Array(await disk).slice().buffer;
  const sources: Record<string, () => Promise<ImageSource>> = {
    Uint8Array: async () => new Uint8Array(await copy()),
    ArrayBuffer: copy,
    Blob: async () => new Blob([await copy()]),
    File: async () => new File([await copy()], 'disk.qcow2'),
    'own storage': async () => {
      const bytes = new Uint8Array(await copy());
      const read: Storage['read'] = async (offset, into) => {
        const part = bytes.subarray(offset, offset + into.length);
        into.set(part);
        return part.length;
      };
      return { size: bytes.length, read, close: () => {} };
    },
  };

  test.each(Object.entries(sources))('can be a %s', async (_, make) => {
    const image = await Image.open(await make());
    expect(image.format).toBe('qcow2');
    expect(Buffer.compare(await contentOf(image), content)).toBe(0);
  });

  test.each([['disk.qcow2'], [null], [undefined], [7], [{}]])('cannot be %o', async (source) => {
    expect(await codeOf(Image.open(source as unknown as ImageSource))).toBe('INVALID_ARGUMENT');
  });

  test('can be given for a backing file, and that for another one', async () => {
    const [base, middle, top] = [await disk, await overlay('base'), await overlay('middle')];
    const image = await Image.open(top, {
      backingFile: { source: new Blob([middle.slice()]), backingFile: base },
    });
    expect(Buffer.compare(await contentOf(image), content)).toBe(0);
  });

  test('can be what a resolver finds', async () => {
    const files: Record<string, ImageSource> = {
      middle: await overlay('base'),
      base: new Blob([await copy()]),
    };
    const asked: string[] = [];
    const image = await Image.open(await overlay('middle'), {
      resolver: ({ name }) => {
        asked.push(name);
        return files[name] ?? null;
      },
    });
    expect(asked).toEqual([]);
    expect(Buffer.compare(await contentOf(image), content)).toBe(0);
    expect(asked).toEqual(['middle', 'base']);
  });

  test('is closed with the image, and when there is none', async () => {
    const files = [
      new Counted(await overlay('base')),
      new Counted(await copy().then((b) => new Uint8Array(b))),
    ];
    const [top, base] = files as [Counted, Counted];
    const image = await Image.open(top, { backingFile: base });
    await image[Symbol.asyncDispose]();
    expect(files.map(({ closed }) => closed > 0)).toEqual([true, true]);
    const broken = new Counted(new Uint8Array(512));
    const given = new Counted();
    const open = Image.open(broken, { format: 'qcow2', dataFile: given });
    expect(await codeOf(open)).toBe('NOT_QCOW2');
    expect([broken.closed, given.closed]).toEqual([1, 1]);
  });
});

test('a target must be one that can be written to', async () => {
  const readOnly = new BlobStorage(new Blob([])) as unknown as MemoryStorage;
  const image = await Image.open(content, { format: 'raw' });
  expect(await codeOf(convert(image, readOnly, { format: 'raw' }))).toBe('INVALID_ARGUMENT');
  expect(await codeOf(create(readOnly, { format: 'raw', size: 512 }))).toBe('INVALID_ARGUMENT');
});

test.each([undefined, 'vmdk', 'RAW'])('a target of format %s is none', async (name) => {
  const format = name as 'raw';
  const image = await Image.open(content, { format: 'raw' });
  const target = new MemoryStorage();
  const message = expect.stringMatching(/format.*; qcow2 and raw are supported$/);
  for (const attempt of [
    () => convert(image, target, { format }),
    () => create(target, { format, size: 512 }),
    () => createFile({ path: 'none', format, size: 512 }),
    () => convertFile({ inputs: [{ path: 'none' }], target: 'none', targetFormat: format }),
  ])
    await expect(attempt()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message });
  expect(target.size).toBe(0);
});

test('an open image is checked with the files it was opened with', async () => {
  const target = new MemoryStorage();
  const dataStorage = new MemoryStorage();
  const size = 4 * MIB;
  await create({ storage: target, dataStorage }, { format: 'qcow2', size, dataFile: 'disk.data' });
  expect(await codeOf(check(target.bytes))).toBe('EXTERNAL_REFUSED');
  const image = await Image.open(target, { dataFile: dataStorage });
  expect(await check(image)).toMatchObject({ corruptions: 0, leaks: 0 });
});

describe('every long operation', () => {
  const open = async (): Promise<Image> => Image.open(await packed());
  const operations: Record<string, (control: OperationControl) => Promise<unknown>> = {
    convert: async (control) =>
      convert(await open(), new MemoryStorage(), { format: 'raw', ...control }),
    check: async (control) => check(await open(), control),
    compare: async (control) => compare(await open(), await open(), control),
    measure: async (control) => measure(await open(), { format: 'qcow2', ...control }),
  };

  test.each(Object.entries(operations))('%s tells its progress, up to the end', async (_, run) => {
    const seen: [number, number][] = [];
    await run({ onProgress: (done, total) => void seen.push([done, total]) });
    const [done, total] = seen.at(-1) ?? [0, -1];
    expect(done).toBe(total);
    const ascending = seen.every(([now], i) => i === 0 || now >= (seen[i - 1]?.[0] ?? 0));
    expect(ascending, String(seen)).toBe(true);
  });

  test.each(Object.entries(operations))('%s ends when it is aborted', async (_, run) => {
    expect(await codeOf(run({ signal: AbortSignal.abort() }))).toBe('ABORTED');
  });

  test.each(Object.entries(operations))('%s fails with what onProgress throws', async (_, run) => {
    const onProgress = () => {
      throw new Error('enough');
    };
    await expect(run({ onProgress })).rejects.toThrow('enough');
  });

  test('map ends when it is aborted', async () => {
    const next = map(await open(), { signal: AbortSignal.abort() }).next();
    expect(await codeOf(next)).toBe('ABORTED');
  });
});
