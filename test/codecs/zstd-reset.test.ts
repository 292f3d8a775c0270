import { expect, test } from 'vitest';
import { loadCodec } from '../../src/codecs/load.ts';
import { createKernel } from '../../src/kernel/kernel.ts';

const ZSTD = 1;

test('codecs of a kernel that was reset leave alone what others took since', async () => {
  const kernel = createKernel();
  const plain = Buffer.from('what is compressed here, and here, and here again. '.repeat(200));
  const packed = new Uint8Array(plain.length);
  const before = await loadCodec(ZSTD, kernel, { compress: true });
  before.compress(plain, packed);
  kernel.reset();
  const other = kernel.arena.allocate(4 << 20);
  other.bytes.fill(0x5a);
  const codec = await loadCodec(ZSTD, kernel, { compress: true });
  const length = codec.compress(plain, packed);
  const unpacked = new Uint8Array(plain.length);
  codec.decompress(packed.subarray(0, length), unpacked);
  expect(Buffer.compare(unpacked, plain)).toBe(0);
  expect(other.bytes.every((byte) => byte === 0x5a)).toBe(true);
});
