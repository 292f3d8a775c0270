import * as library from '@bokuweb/zstd-wasm';
import { describe, expect, it } from 'vitest';
import { ZstdCodec } from '../../src/codecs/zstd.ts';
import { loadZstdCompressor } from '../../src/codecs/zstd-compressor.ts';
import { startZstdLibrary, type ZstdLibrary } from '../../src/codecs/zstd-library.ts';
import { createKernel } from '../../src/kernel/kernel.ts';
import { makeContent } from '../support/data.ts';

describe('host without zstd', () => {
  it('says what to install', async () => {
    const missing = () => Promise.reject(new Error("Cannot find package '@bokuweb/zstd-wasm'"));
    await expect(loadZstdCompressor(undefined, missing)).rejects.toMatchObject({
      name: 'Qcow2Error',
      code: 'UNSUPPORTED',
      message: expect.stringMatching(
        /^[^\n]*Node 22\.15[^\n]*npm install @bokuweb\/zstd-wasm[^\n]*$/,
      ),
      cause: { message: "Cannot find package '@bokuweb/zstd-wasm'" },
    });
  });

  it('does not wait forever for a library that never starts', async () => {
    const silent = { ...library, init: () => new Promise<void>(() => {}), createCCtx: refuse };
    await expect(startZstdLibrary(silent, 3, 20)).rejects.toThrow('did not load');
  });

  it('refuses a library that returns other bytes', async () => {
    await library.init();
    const wrong = {
      ...library,
      init: async () => {},
      compressUsingDict: () => new Uint8Array(13),
    };
    await expect(startZstdLibrary(wrong, 3, 1000)).rejects.toThrow('fails a trial');
  });
});

describe('a library shared with other code', () => {
  it('does not initialise again what works, and notices when other code does', async () => {
    const plain = makeContent('text', 4096);
    const output = new Uint8Array(4096);
    let starts = 0;
    const counting: ZstdLibrary = {
      ...library,
      init: () => {
        starts++;
        return library.init();
      },
    };
    await library.init();
    const codec = new ZstdCodec(createKernel(), await startZstdLibrary(counting, 3, 1000));
    expect(starts).toBe(0);
    const stream = output.slice(0, codec.compress(plain, output));
    codec.decompress(stream, output);
    expect(output).toEqual(plain);

    await library.init();
    // Its init() reports back before the second instance is there.
    await new Promise((resolve) => setTimeout(resolve, 500));
    for (let i = 0; i < 3; i++) {
      expect(() => codec.compress(plain, output)).toThrow(
        expect.objectContaining({
          code: 'UNSUPPORTED',
          message: expect.stringContaining('init()'),
        }),
      );
    }
    // Decoding does without the library.
    output.fill(0);
    codec.decompress(stream, output);
    expect(output).toEqual(plain);
  });
});

function refuse(): never {
  throw new TypeError('not initialised');
}
