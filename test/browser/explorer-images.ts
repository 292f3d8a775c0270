import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { buildImage } from '../hostile/builder.ts';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { EFI_GUID, gptDisk, LINUX_GUID } from '../web/disks.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 2048 * MIB;

/** Where the disk of `overlay.qcow2` has bytes of its base, and which. */
export const BASE_DATA = { offset: 8 * MIB, bytes: makeContent('mixed', 3 * MIB, 4) };

/** Makes all images the explorer is tested with. */
export async function makeExplorerImages(folder: string): Promise<void> {
  const at = (name: string) => join(folder, name);
  await Promise.all([
    makeOverlay(folder),
    // A cell for each cluster, and each has data.
    qemuImg(
      ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', 'huge.qcow2', '256G'],
      folder,
    ),
  ]);
  const unknown = {
    type: 0x51c0ffee,
    data: Uint8Array.of(1, 2, 3, 4, 5),
    padding: new Uint8Array(3),
  };
  const extensions = [{ kind: 'unknown' as const, ...unknown }];
  writeFileSync(at('extension.qcow2'), buildImage({ extensions }).bytes);
  writeFileSync(
    at('data.qcow2'),
    buildImage({ dataFile: { name: 'disk.data' }, clusters: 'HZH' }).bytes,
  );
  writeFileSync(at('disk.data'), Buffer.alloc(65536, 'data file '));
  writeFileSync(at('damaged.qcow2'), damaged());
}

/** A partitioned disk, compressed, below an image with snapshot and bitmap. */
async function makeOverlay(folder: string): Promise<void> {
  const { start, end } = gptDisk(DISK_BYTES, [
    { name: 'EFI system', type: EFI_GUID, first: 2048, sectors: 8192 },
    { name: 'root', type: LINUX_GUID, first: 16384, sectors: 2 ** 21 },
  ]);
  const raw = await open(join(folder, 'base.raw'), 'w');
  await raw.truncate(DISK_BYTES);
  await raw.write(start, 0, start.length, 0);
  await raw.write(end, 0, end.length, DISK_BYTES - end.length);
  await raw.write(BASE_DATA.bytes, 0, BASE_DATA.bytes.length, BASE_DATA.offset);
  await raw.close();
  await qemuImg(['convert', '-c', '-f', 'raw', '-O', 'qcow2', 'base.raw', 'base.qcow2'], folder);
  const over = ['-b', 'base.qcow2', '-F', 'qcow2', 'overlay.qcow2'];
  await qemuImg(['create', '-q', '-f', 'qcow2', ...over], folder);
  await qemuIo('overlay.qcow2', ['write -P 7 64M 12M', 'write -P 8 900M 1M'], folder);
  await qemuImg(['snapshot', '-c', 'before', 'overlay.qcow2'], folder);
  await qemuIo('overlay.qcow2', ['write -P 9 66M 1M', 'write -z 1G 64M'], folder);
  await qemuImg(['bitmap', '--add', 'overlay.qcow2', 'nightly'], folder);
}

/** One cluster leaked, one entry wrong. */
function damaged(): Uint8Array {
  const image = buildImage({ clusters: 'HHHH' });
  const view = new DataView(image.bytes.buffer, image.bytes.byteOffset);
  const l1 = Number(view.getBigUint64(40));
  const l2 = Number(view.getBigUint64(l1) & 0xfffffffffffe00n);
  view.setBigUint64(l2, 0n);
  view.setBigUint64(l2 + 16, view.getBigUint64(l2 + 16) & ~(1n << 63n));
  return image.bytes;
}
