import fc from 'fast-check';
import { Image } from '../../src/image/image.ts';
import { convert } from '../../src/operations/convert.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { makeContent } from '../support/data.ts';

/** Which clusters of a disk hold data. */
export const anyClusters = fc.array(fc.boolean(), { minLength: 1, maxLength: 60 });

/** A disk with data in some of its clusters. */
export async function clusterDisk(clusters: readonly boolean[], compress: boolean): Promise<Image> {
  const bytes = new Uint8Array(clusters.length * 4096);
  clusters.forEach((data, i) => {
    if (data) bytes.set(makeContent('text', 4096, i + 1), i * 4096);
  });
  const storage = new MemoryStorage(new Uint8Array(0), 'top');
  const source = await Image.open(new MemoryStorage(bytes), { format: 'raw' });
  const create = { clusterSize: 4096 };
  await convert([source], { storage }, { format: 'qcow2', compress, create });
  return Image.open(storage);
}
