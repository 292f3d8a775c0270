import { Image } from '../../src/image/image.ts';
import { convert } from '../../src/operations/convert.ts';
import { create } from '../../src/operations/create.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { bootSector, FAR_SECTOR, textSector, WRITTEN_SECTOR } from './boot-disk.ts';

/** A compressed qcow2 image of a disk of 2 GiB that boots, and prints what `bootSector` says. */
export async function makeBootImage(): Promise<Uint8Array<ArrayBuffer>> {
  const plain = new MemoryStorage();
  await create(plain, { format: 'qcow2', size: 2 * 2 ** 30 });
  const image = await Image.open(plain, { writable: true });
  await image.write(0, bootSector());
  await image.write(FAR_SECTOR * 512, textSector('far'));
  await image.write(WRITTEN_SECTOR * 512, textSector('as made'));
  await image.flush();
  const packed = new MemoryStorage();
  await convert(image, packed, { format: 'qcow2', compress: true });
  await image.close();
  return packed.bytes.slice() as Uint8Array<ArrayBuffer>;
}

/** What the serial port tells in the first boot, and in one of what the first has left. */
export const FIRST_BOOT = 'boot\nfar\nas made\ndone\n';
export const NEXT_BOOT = 'boot\nfar\nkept\ndone\n';
