import * as fs from 'node:fs';
import * as path from 'node:path';
import { BITMAP_IN_USE } from '../../src/format/bitmap-directory.ts';
import { setRefcount } from '../../src/format/refcount-entry.ts';
import { Image } from '../../src/image/image.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { dirtyGranules } from './bitmaps.ts';
import { converted } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import {
  CONTENT,
  Exchanged,
  type Expectation,
  MIB,
  SIZE,
  type Verb,
  whole,
  writeImage,
  writeSnapshot,
} from './kill-verbs.ts';

/** What the disk of `image` reads, by qemu-img; with `-l` and a name, that of a snapshot. */
async function diskOf(folder: string, ...options: readonly string[]): Promise<Uint8Array> {
  const files = ['-f', 'qcow2', '-O', 'raw', 'image', 'disk'];
  await runOk('qemu-img', ['convert', ...options, ...files], folder);
  const disk = new Uint8Array(fs.readFileSync(path.join(folder, 'disk')));
  fs.rmSync(path.join(folder, 'disk'));
  return disk;
}

/** An overlay with data, zeros and nothing over a shorter `backing`. */
async function writeOverlay(
  folder: string,
  format: 'raw' | 'qcow2',
  snapshot?: string,
): Promise<{ disk: Uint8Array; below: Uint8Array }> {
  const below = CONTENT.slice(0, SIZE - 256 * 1024);
  const packed = await converted(below.length, { clusterSize: 512 }, { content: below });
  const backing = format === 'raw' ? below : packed.files.image!;
  fs.writeFileSync(path.join(folder, 'backing'), backing);
  const options = `-f qcow2 -o cluster_size=512 -b backing -F ${format} image ${SIZE}`;
  await runOk('qemu-img', `create -q ${options}`.split(' '), folder);
  const write = async (offset: number): Promise<void> => {
    const commands: string[] = [];
    for (let at = offset; at < SIZE; at += 256 * 1024)
      commands.push('-c', `write -P 0x42 ${at} 48k`, '-c', `write -z ${at + 65536} 48k`);
    await runOk('qemu-io', ['-f', 'qcow2', ...commands, 'image'], folder);
  };
  await write(0);
  if (snapshot !== undefined) {
    await runOk('qemu-img', ['snapshot', '-c', snapshot, 'image'], folder);
    await write(100 * 1024);
  }
  return { disk: await diskOf(folder), below };
}

/** An overlay that is committed: it shows the same disk, and its base becomes that. */
async function committing(folder: string, format: 'raw' | 'qcow2'): Promise<Expectation> {
  const { disk, below } = await writeOverlay(folder, format);
  const before = new Uint8Array(disk.length);
  before.set(below);
  const model = new GuestModel(before);
  model.write(0, 0, disk);
  model.flush(1, disk);
  const sizes = (cut: number): number[] =>
    cut === 0 ? [below.length, disk.length] : [disk.length];
  return { ...whole(disk), backing: { format, disk: model, sizes } };
}

/** Two bitmaps with other bits; the change is made to them, or not yet. */
async function changingBitmaps(
  folder: string,
  change: (bitmaps: Map<string, Set<number>>) => void,
): Promise<Expectation> {
  await writeImage(folder);
  for (const [i, name] of ['fine', 'wide'].entries()) {
    await runOk('qemu-img', ['bitmap', '--add', '-g', '512', 'image', name], folder);
    const writes = [`write -P 7 ${i * 600}k 300k`, `write -P 8 ${1500 - i * 99}k 1k`];
    const commands = writes.flatMap((write) => ['-c', write]);
    await runOk('qemu-io', ['-f', 'qcow2', ...commands, 'image'], folder);
  }
  const image = await Image.open(new Uint8Array(fs.readFileSync(path.join(folder, 'image'))));
  const bitmaps = await bitmapsOf(image);
  const before = textOf(bitmaps);
  change(bitmaps);
  const after = textOf(bitmaps);
  const also: Expectation['also'] = async (found, ended) => {
    const text = textOf(await bitmapsOf(found));
    if (text === after || (!ended && text === before)) return undefined;
    return `bitmaps are:\n${text}`;
  };
  return { ...whole(await diskOf(folder)), also };
}

async function bitmapsOf(image: Image): Promise<Map<string, Set<number>>> {
  const bitmaps = new Map<string, Set<number>>();
  for (const entry of await image.bitmaps()) {
    const inUse = (entry.flags & BITMAP_IN_USE) !== 0 ? ' in use' : '';
    bitmaps.set(entry.name.text + inUse, await dirtyGranules(image, entry));
  }
  return bitmaps;
}

function textOf(bitmaps: ReadonlyMap<string, Set<number>>): string {
  const lines = [...bitmaps].map(([name, bits]) => `${name}: ${[...bits].sort((a, b) => a - b)}`);
  return lines.sort().join('\n');
}

/** An image whose counters are damaged: sound once the command is done. */
async function repairing(
  folder: string,
  damage: (view: DataView, blocks: readonly number[]) => void,
): Promise<Expectation> {
  const options = { clusterSize: 512, lazyRefcounts: true };
  const { files } = await converted(SIZE, options, { content: CONTENT });
  const image = files.image!;
  const view = new DataView(image.buffer);
  const table = Number(view.getBigUint64(48));
  const blocks: number[] = [];
  for (let at = table; at < table + 512 * view.getUint32(56); at += 8)
    if (view.getBigUint64(at) !== 0n) blocks.push(at);
  damage(view, blocks);
  fs.writeFileSync(path.join(folder, 'image'), image);
  return { ...whole(CONTENT), isDamaged: true };
}

/** Verbs that change an image in place. */
export const CHANGING: readonly Verb[] = [
  {
    name: 'snapshot -c',
    argv: 'snapshot -c fresh image',
    prepare: async (folder) => {
      const { old, disk } = await writeSnapshot(folder);
      const snapshots = { old: new GuestModel(old), fresh: new GuestModel(disk) };
      const mustHave = (cut: number): string[] => (cut === 0 ? ['old'] : ['old', 'fresh']);
      return { ...whole(disk), snapshots, mustHave, lazyRefcounts: true };
    },
  },
  {
    name: 'snapshot -a',
    argv: 'snapshot -a old image',
    prepare: async (folder) => {
      const { old, disk } = await writeSnapshot(folder);
      return { disk: new Exchanged(disk, old), snapshots: { old: new GuestModel(old) } };
    },
  },
  {
    name: 'snapshot -d',
    argv: 'snapshot -d old image',
    prepare: async (folder) => {
      const { old, disk } = await writeSnapshot(folder);
      const snapshots = { old: new GuestModel(old) };
      return { ...whole(disk), snapshots, mustHave: () => [], lazyRefcounts: true };
    },
  },
  {
    name: 'resize, longer',
    argv: 'resize -q --preallocation=metadata image 3M',
    prepare: async (folder) => {
      await writeImage(folder);
      const sizes = (cut: number): number[] => (cut === 0 ? [SIZE, 3 * MIB] : [3 * MIB]);
      return { ...whole(CONTENT), sizes };
    },
  },
  {
    name: 'resize, shorter',
    argv: 'resize -q --shrink image 1M',
    prepare: async (folder) => {
      await writeImage(folder);
      const disk = new GuestModel(CONTENT);
      disk.zero(0, MIB, SIZE - MIB);
      return { disk, sizes: (cut) => (cut === 0 ? [SIZE, MIB] : [MIB]) };
    },
  },
  {
    name: 'bench -w',
    argv: 'bench -w -c 250 -s 4096 -S 8192 --pattern=65 --flush-interval=100 -f qcow2 image',
    prepare: async (folder) => {
      const { old, disk } = await writeSnapshot(folder);
      const model = new GuestModel(disk);
      const after = disk.slice();
      for (let at = 0; at < 250 * 8192; at += 8192) {
        const bytes = after.subarray(at, at + 4096).fill(65);
        model.write(0, at, bytes);
      }
      model.flush(1, after);
      return { disk: model, snapshots: { old: new GuestModel(old) } };
    },
  },
  {
    name: 'convert -n',
    argv: 'convert -n -f raw -O qcow2 source image',
    prepare: async (folder) => {
      const { old, disk } = await writeSnapshot(folder);
      const source = makeContent('mixed', SIZE, 11);
      fs.writeFileSync(path.join(folder, 'source'), source);
      const model = new GuestModel(disk);
      model.write(0, 0, source);
      model.flush(1, source);
      return { disk: model, snapshots: { old: new GuestModel(old) } };
    },
  },
  {
    name: 'rebase, onto another file',
    argv: 'rebase -b other -F raw image',
    prepare: async (folder) => {
      const { disk } = await writeOverlay(folder, 'qcow2');
      fs.writeFileSync(path.join(folder, 'other'), makeContent('mixed', SIZE, 12));
      return whole(disk);
    },
  },
  {
    name: 'rebase, onto none',
    argv: "rebase -b '' image",
    prepare: async (folder) => whole((await writeOverlay(folder, 'raw')).disk),
  },
  {
    name: 'commit, raw base',
    argv: 'commit -q image',
    prepare: (folder) => committing(folder, 'raw'),
  },
  {
    name: 'commit, qcow2 base',
    argv: 'commit -q image',
    prepare: (folder) => committing(folder, 'qcow2'),
  },
  {
    name: 'commit -d',
    argv: 'commit -q -d image',
    prepare: (folder) => committing(folder, 'qcow2'),
  },
  {
    name: 'amend, to version 2 with zero clusters',
    argv: 'amend -o compat=0.10 image',
    prepare: async (folder) => {
      const { disk } = await writeOverlay(folder, 'raw', 'old');
      const snapshots = { old: new GuestModel(await diskOf(folder, '-l', 'old')) };
      return { ...whole(disk), snapshots, lazyRefcounts: true };
    },
  },
  {
    name: 'amend, to 64-bit counters',
    argv: 'amend -o refcount_bits=64 image',
    prepare: async (folder) => {
      await writeImage(folder);
      return whole(CONTENT);
    },
  },
  {
    name: 'bitmap --add',
    argv: 'bitmap --add -g 512 image new',
    prepare: (folder) => changingBitmaps(folder, (bitmaps) => bitmaps.set('new', new Set())),
  },
  {
    name: 'bitmap --merge',
    argv: 'bitmap --merge fine image wide',
    prepare: (folder) =>
      changingBitmaps(folder, (bitmaps) => {
        for (const granule of bitmaps.get('fine')!) bitmaps.get('wide')!.add(granule);
      }),
  },
  {
    name: 'bitmap --remove',
    argv: 'bitmap --remove image fine',
    prepare: (folder) => changingBitmaps(folder, (bitmaps) => bitmaps.delete('fine')),
  },
  {
    name: 'check -r all, dirty image',
    argv: 'check -q -r all image',
    prepare: (folder) =>
      repairing(folder, (view, blocks) => {
        view.setBigUint64(72, view.getBigUint64(72) | 1n);
        for (const [i, entry] of blocks.entries()) {
          const block = Number(view.getBigUint64(entry));
          const counters = new Uint8Array(view.buffer, block, 512);
          for (let n = i === 0 ? 16 : 0; n < 256; n += 2) setRefcount(counters, n, 4, n % 4);
        }
      }),
  },
  {
    name: 'check -r all, rebuilding counters',
    argv: 'check -q -r all image',
    prepare: (folder) =>
      repairing(folder, (view, blocks) => {
        for (const entry of blocks) view.setBigUint64(entry, 0n);
      }),
  },
];
