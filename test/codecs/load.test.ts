import { describe, expect, it } from 'vitest';
import { loadCodec } from '../../src/codecs/load.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { makeContent } from '../support/data.ts';

describe('loadCodec', () => {
  const kernel = createKernel();

  it.each([
    [0, 'zlib'],
    [1, 'zstd'],
  ] as const)('type %i is %s', async (type, name) => {
    const [codec, another] = await Promise.all([
      loadCodec(type, kernel, { compress: true }),
      loadCodec(type, kernel),
    ]);
    expect(codec).toMatchObject({ type, name });
    const plain = makeContent('text', 65536);
    const stream = new Uint8Array(65535);
    const length = codec.compress(plain, stream);
    expect(length).toBeGreaterThan(0);
    const output = new Uint8Array(65536);
    another.decompress(stream.subarray(0, length), output);
    expect(output).toEqual(plain);
  });

  it.each([2, 255, -1])('type %i is refused', async (type) => {
    await expect(loadCodec(type, kernel)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(`compression type ${type}`),
      details: { structure: 'header', offset: 104, value: type },
    });
  });
});
