import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../hostile/builder.ts';
import { World } from '../hostile/fixture.ts';
import { header } from '../hostile/fixtures/header.ts';
import { mapping } from '../hostile/fixtures/mapping.ts';
import { tables } from '../hostile/fixtures/tables.ts';
import { truncated } from '../hostile/fixtures/truncated.ts';
import { qemuImg, qemuIo } from '../oracle/tools.ts';
import { makeContent } from '../support/data.ts';
import { bootRecord } from '../web/disks.ts';

const MIB = 2 ** 20;

const hostile = [header, tables, mapping, truncated].flatMap((fixtures) =>
  fixtures.filter(({ stage }) => stage !== 'never').filter((_, i) => i % 9 === 0),
);

/** Names of hostile images. */
export const HOSTILE: readonly string[] = hostile.map((_, i) => `hostile-${i}.qcow2`);

/** Where each cluster of `remote.qcow2` says which it is, every 4 KiB. */
export const REMOTE = { clusterBytes: 65536, middle: 32 * MIB };

/** Makes the images for what a person does with the explorer. */
export async function makeScenarioImages(folder: string): Promise<void> {
  const img = (line: string) => qemuImg(line.split(' '), folder);
  const write = (name: string, bytes: Uint8Array) => writeFileSync(join(folder, name), bytes);
  const world = new World(join(folder, 'world'));
  hostile.forEach((fixture, i) => {
    write(`hostile-${i}.qcow2`, fixture.make(world).bytes);
  });
  const mixed = makeContent('mixed', 4 * MIB, 11);
  mixed.set(bootRecord([{ type: 0x83, first: 2048, sectors: 4096 }]));
  write('mixed.raw', mixed);
  write(
    'remote.raw',
    Buffer.alloc(64 * MIB).map((_, i) => (i >>> 16) + (i & 0xfff)),
  );
  const damaged = buildImage({ clusters: 'HHHHHH' }).l2(2, (1n << 63n) | 0x5200n);
  write('damaged.qcow2', damaged.bytes);
  await Promise.all([
    // As long as its disk.
    img('create -q -f qcow2 -o preallocation=metadata full.qcow2 2G'),
    img('convert -f raw -O qcow2 remote.raw remote.qcow2'),
    // What compressed clusters lie in is read in whole sectors, so that others follow them.
    img('convert -c -f raw -O qcow2 mixed.raw zlib.qcow2'),
    img('convert -c -f raw -O qcow2 -o compression_type=zstd mixed.raw zstd.qcow2'),
    img('create -q -f qcow2 bottom.qcow2 4M').then(async () => {
      await qemuIo('bottom.qcow2', ['write -P 5 0 1M'], folder);
      await img('create -q -f qcow2 -b bottom.qcow2 -F qcow2 middle.qcow2');
      await qemuIo('middle.qcow2', ['write -P 6 1M 1M'], folder);
      await img('create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2');
      await qemuIo('top.qcow2', ['write -P 7 2M 1M'], folder);
    }),
  ]);
}
