import { expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { newImage, openWritable } from './writable-image.ts';

it.each([
  { clusterSize: 4096 },
  { clusterSize: 4096, compat: '0.10' },
  { clusterSize: 65536 },
  { clusterSize: 16384, extendedL2: true },
] as const)(
  'zeros up to a disk end within a cluster leave what is before them: %j',
  async (shape) => {
    // Five sectors; and so many behind a whole cluster.
    for (const size of [2560, shape.clusterSize + 2560]) {
      const storage = await newImage({ size, ...shape });
      const image = await openWritable(storage);
      await image.write(size - 2560, new Uint8Array(1).fill(7));
      await image.writeZeroes(size - 2559, 2559);
      await image.close();
      const byte = new Uint8Array(1);
      await (await Image.open(storage)).read(size - 2560, byte);
      expect(byte[0]).toBe(7);
    }
  },
);
