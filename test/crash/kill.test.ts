import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { converted } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import { filesOf, type KillCase, killAtRandom } from './kill.ts';
import { PagedStorage } from './paged-storage.ts';
import { type ImageExpectation, judge, judgeWithQemu } from './verdict.ts';

/** Times a command that changes an image is killed; others less often. QCOW2_KILLS asks for others. */
const KILLS = Number(process.env.QCOW2_KILLS ?? 50);
const SEED = Number(process.env.QCOW2_KILL_SEED ?? Date.now() % 2 ** 32);

const MIB = 2 ** 20;
const SIZE = 2 * MIB;
const CONTENT = makeContent('mixed', SIZE, 3);

/** At a cut of 0 the command was killed, at 1 it was done. */
type Expectation = Omit<ImageExpectation, 'file'>;

/** A verb that writes: what it works on, and what may be found of it. */
interface Verb {
  readonly name: string;
  readonly argv: string;
  prepare(folder: string): Promise<Expectation>;
}

/** A command that changes the file `image`, or makes the file `target`, which is there or whole. */
function killing({ name, argv, prepare }: Verb, file: 'image' | 'target'): KillCase {
  let expected: Expectation | undefined;
  return {
    name,
    argv: argv.split(' '),
    async prepare(folder) {
      expected = await prepare(folder);
    },
    async judge(folder, ended) {
      const files = filesOf(folder);
      if (!files.has(file)) return ended ? `there is no ${file}` : undefined;
      const state = new Map([...files].map(([of, bytes]) => [of, new PagedStorage(of, bytes)]));
      const cut = ended ? 1 : 0;
      const scratch = makeTempDir('killed');
      try {
        return (
          (await judge(state, cut, { ...expected!, file })) ??
          (await judgeWithQemu(state, cut, { ...expected!, file }, scratch))
        );
      } finally {
        removeTempDir(scratch);
      }
    },
  };
}

/** A disk that reads all as before or all as after; at a cut of 1 as after. */
class Exchanged extends GuestModel {
  readonly #before: GuestModel;

  constructor(before: Uint8Array, after: Uint8Array) {
    super(after);
    this.#before = new GuestModel(before);
  }

  override findFault(cut: number, disk: Uint8Array): string | undefined {
    const fault = super.findFault(cut, disk);
    return fault && cut === 0 ? this.#before.findFault(cut, disk) : fault;
  }
}

async function writeRaw(folder: string): Promise<void> {
  fs.writeFileSync(path.join(folder, 'source'), CONTENT);
}

/** An image of small clusters, which takes many tables and counters. */
async function writeImage(folder: string, name = 'image'): Promise<void> {
  const { files } = await converted(SIZE, { clusterSize: 512 }, { content: CONTENT });
  fs.writeFileSync(path.join(folder, name), files.image!);
}

/** The image, with a snapshot `old` of what it was before parts of it were written. */
async function writeSnapshot(folder: string): Promise<{ old: Uint8Array; disk: Uint8Array }> {
  await writeImage(folder);
  await runOk('qemu-img', ['snapshot', '-c', 'old', 'image'], folder);
  const disk = CONTENT.slice();
  const commands: string[] = [];
  for (let at = 0; at < SIZE; at += 256 * 1024) {
    disk.fill(0x41, at, at + 64 * 1024);
    commands.push('-c', `write -P 0x41 ${at} 64k`);
  }
  await runOk('qemu-io', ['-f', 'qcow2', ...commands, 'image'], folder);
  return { old: CONTENT, disk };
}

const whole = (disk: Uint8Array): Expectation => ({ disk: new GuestModel(disk) });

/** Verbs that make a new file: it is not there, or whole. */
const MAKING: readonly Verb[] = [
  {
    name: 'create',
    argv: 'create -q -f qcow2 -o cluster_size=512,preallocation=metadata target 2M',
    prepare: async () => whole(new Uint8Array(SIZE)),
  },
  {
    name: 'create, preallocated',
    argv: 'create -q -f qcow2 -o preallocation=full target 2M',
    prepare: async () => whole(new Uint8Array(SIZE)),
  },
  {
    name: 'convert',
    argv: 'convert -f raw -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT);
    },
  },
  {
    name: 'convert, compressed, two threads',
    argv: 'convert -m 2 -c -f raw -O qcow2 source target',
    prepare: async (folder) => {
      const content = makeContent('mixed', 12 * MIB, 3);
      fs.writeFileSync(path.join(folder, 'source'), content);
      return whole(content);
    },
  },
  {
    name: 'convert over an image',
    argv: 'convert -f raw -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      await runOk('qemu-img', 'create -q -f qcow2 target 2M'.split(' '), folder);
      return { disk: new Exchanged(new Uint8Array(SIZE), CONTENT) };
    },
  },
  {
    name: 'convert --bitmaps',
    argv: 'convert --bitmaps -f qcow2 -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeImage(folder, 'source');
      await runOk('qemu-img', 'bitmap --add -g 512 source bits'.split(' '), folder);
      await runOk('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 1M', 'source'], folder);
      const disk = CONTENT.slice().fill(7, MIB, 2 * MIB);
      const also: Expectation['also'] = async (image) => {
        const names = (await image.bitmaps()).map((bitmap) => bitmap.name.text);
        return names.join() === 'bits' ? undefined : `bitmaps: ${names.join()}`;
      };
      return { ...whole(disk), also };
    },
  },
  {
    name: 'dd',
    argv: 'dd -f raw -O qcow2 bs=512 count=4000 if=source of=target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT.subarray(0, 4000 * 512));
    },
  },
  {
    name: 'adopt',
    argv: 'adopt -q -f raw -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT);
    },
  },
];

/** Verbs that change an image in place. */
const CHANGING: readonly Verb[] = [
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
];

const CASES = [
  ...MAKING.map((verb) => ({ ...killing(verb, 'target'), kills: Math.ceil(KILLS * 0.3) })),
  ...CHANGING.map((verb) => ({ ...killing(verb, 'image'), kills: KILLS })),
];

describe(`a command that is killed (QCOW2_KILL_SEED=${SEED})`, () => {
  it.each(CASES)('$name', { timeout: 120_000 }, async ({ kills, ...killCase }) => {
    const report = await killAtRandom(killCase, { seed: SEED, kills });
    const { killed, midway, ended, failure } = report;
    expect(failure).toBeUndefined();
    console.log(`${killCase.name}: ${killed} killed, ${midway} of them midway; ${ended} ended`);
    expect(killed).toBeGreaterThan(kills / 4);
  });
});
