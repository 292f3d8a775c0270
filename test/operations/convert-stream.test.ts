import { expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { convertStream } from '../../src/operations/convert-stream.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';

const disk = makeContent('mixed', 5_000_000, 8);

async function* pieces(length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < disk.length; at += length) yield disk.subarray(at, at + length);
}

it.each([1000, 5_000_000])('a stream in pieces of %d bytes', async (length) => {
  const target = new MemoryStorage();
  const reports: [number, number][] = [];
  const size = await convertStream(pieces(length), target, {
    format: 'qcow2',
    compress: true,
    onProgress: (done, total) => void reports.push([done, total]),
  });
  expect(size).toBe(Math.ceil(disk.length / 512) * 512);
  expect(reports.at(0)).toEqual([2 << 20, Number.POSITIVE_INFINITY]);
  expect(reports.at(-1)).toEqual([disk.length, disk.length]);
  const image = await Image.open(target.bytes);
  const bytes = new Uint8Array(size);
  await image.read(0, bytes);
  expect(Buffer.compare(bytes.subarray(0, disk.length), disk)).toBe(0);
  await image.close();
});

it('an error of the stream is one of the conversion', async () => {
  const source = new ReadableStream<Uint8Array>({
    start: (controller) => controller.error(new Error('line cut')),
  });
  const result = convertStream(source, new MemoryStorage(), { format: 'raw', name: 'the body' });
  await expect(result).rejects.toThrow('Could not read the body: line cut');
});

it('a silent stream ends with the signal', async () => {
  const source = new ReadableStream<Uint8Array>({});
  const result = convertStream(source, new MemoryStorage(), {
    format: 'raw',
    signal: AbortSignal.timeout(20),
  });
  await expect(result).rejects.toMatchObject({ code: 'ABORTED' });
});
