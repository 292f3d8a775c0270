import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { convertFile } from '../../src/node.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

/** QEMU reads what the codec compresses, with libzstd. */
describe('qemu-img', () => {
  let folder: string;
  const plain = makeContent('mixed', 5 * 2 ** 20 + 1024, 11);

  beforeAll(() => {
    folder = makeTempDir('zstd-qemu');
    writeFileSync(join(folder, 'plain.raw'), plain);
  });
  afterAll(() => removeTempDir(folder));

  it.each([9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21])(
    'reads zstd at cluster bits %i',
    async (clusterBits) => {
      await convertFile({
        inputs: [{ path: join(folder, 'plain.raw'), format: 'raw' }],
        target: join(folder, 'compressed.qcow2'),
        targetFormat: 'qcow2',
        create: { clusterSize: 2 ** clusterBits, compressionType: 'zstd' },
        compress: true,
        threads: 1,
      });
      await runOk('qemu-img', ['check', '-q', 'compressed.qcow2'], folder);
      const files = ['plain.raw', 'compressed.qcow2'];
      await runOk('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', ...files], folder);
    },
  );
});
