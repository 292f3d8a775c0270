import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { contents, makeKind, WRITE_KINDS, type WriteKind } from '../image/write-kinds.ts';
import { firstDifference, stepsOn, type WriteStep } from '../image/write-model.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qemuIo } from './tools.ts';

const RUNS = Number(process.env.QCOW2_WRITE_RUNS ?? 2);
const SEED = Number(process.env.QCOW2_WRITE_SEED ?? 40);
const KINDS = [
  'version 3',
  'version 2',
  'clusters of 512 bytes',
  'snapshots',
  'odd size',
  'raw backing file, version 2',
  'backing chain with snapshots',
  'compressed with snapshots',
  'extended L2 over a backing chain',
  'extended L2, preallocated over a backing file',
  'data file',
  'raw data file',
  'lazy refcounts with snapshots',
  'bitmaps',
  'bitmaps, clusters of 512 bytes',
];

let root: string;
let folders = 0;
beforeAll(() => {
  root = makeTempDir('write-differential');
});
afterAll(() => removeTempDir(root));

function folderWith(files: ReadonlyMap<string, Uint8Array>): string {
  const folder = join(root, `${folders++}`);
  mkdirSync(folder);
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  return folder;
}

/** A step as qemu-io can do it: whole sectors, one byte value. */
function inSectors<S extends WriteStep>(step: S): S {
  if (!('at' in step)) return step;
  const at = step.at - (step.at % 512);
  const end = Math.ceil((step.at + step.length) / 512) * 512;
  return { ...step, at, length: end - at };
}

function command(step: WriteStep): string[] {
  if (step.do === 'flush') return ['flush'];
  if (!('at' in step) || step.length === 0) return [];
  const range = `${step.at} ${step.length}`;
  if (step.do === 'write') return [`write -q -P ${step.fill} ${range}`];
  if (step.do === 'zero') return [`write -q -z${step.unmap ? ' -u' : ''} ${range}`];
  return [`discard -q ${range}`];
}

async function writeOurs(folder: string, steps: readonly WriteStep[]): Promise<void> {
  const image = await openImage(join(folder, 'image.qcow2'), { writable: true, sync: true });
  for (const step of steps) {
    if (step.do === 'write')
      await image.write(step.at, new Uint8Array(step.length).fill(step.fill));
    else if (step.do === 'zero')
      await image.writeZeroes(step.at, step.length, { unmap: step.unmap });
    else if (step.do === 'discard') await image.discard(step.at, step.length);
    else if (step.do === 'flush') await image.flush();
  }
  await image.close();
}

/** What qemu-img tells of the bitmaps, if the kind has any: flags and granularities. */
async function bitmapBits(folder: string, kind: WriteKind): Promise<string> {
  if (!kind.name.startsWith('bitmaps')) return '';
  const { stdout } = await runOk('qemu-img', ['info', '--output=json', 'image.qcow2'], folder);
  const { bitmaps } = JSON.parse(stdout)['format-specific'].data;
  return JSON.stringify(bitmaps);
}

describe('what we write and what qemu-io writes is the same disk', () => {
  for (const kind of WRITE_KINDS.filter(({ name }) => KINDS.includes(name))) {
    it(kind.name, async () => {
      const template = folderWith(new Map());
      const image = await makeKind(kind, template);
      await fc.assert(
        fc.asyncProperty(stepsOn(kind), async (drawn) => {
          const steps = drawn.map(inSectors);
          const [ours, theirs] = [folderWith(image.files), folderWith(image.files)];
          await writeOurs(ours, steps);
          const commands = ['-d', 'unmap', '-f', 'qcow2'];
          for (const each of steps.flatMap(command)) commands.push('-c', each);
          await runOk('qemu-io', [...commands, 'image.qcow2'], theirs);
          await runOk('qemu-img', ['check', '-q', 'image.qcow2'], ours);
          const disks = [await contents(ours, []), await contents(theirs, [])] as const;
          expect(firstDifference(disks[0], disks[1])).toBe(-1);
          for (const name of kind.snapshots) {
            const old = await contents(ours, ['-l', name]);
            expect(firstDifference(old, image.snapshots.get(name)!)).toBe(-1);
          }
          expect(await bitmapBits(ours, kind)).toBe(await bitmapBits(theirs, kind));
          // And qemu goes on where we stopped.
          await qemuIo('image.qcow2', ['write -P 200 64k 200k', 'read -P 200 64k 200k'], ours);
          await runOk('qemu-img', ['check', '-q', 'image.qcow2'], ours);
          removeTempDir(ours);
          removeTempDir(theirs);
        }),
        { numRuns: RUNS, seed: SEED },
      );
    });
  }
});

describe('persistent bitmaps', () => {
  it('record what was written: qemu reads the bits', async () => {
    const folder = folderWith(new Map());
    const img = (...args: string[]) => runOk('qemu-img', args, folder);
    await img('create', '-q', '-f', 'qcow2', 'image.qcow2', '8M');
    await img('bitmap', '--add', '-g', '64k', 'image.qcow2', 'on');
    await img('bitmap', '--add', '--disable', 'image.qcow2', 'off');
    for (const start of [1, 5]) {
      const image = await openImage(join(folder, 'image.qcow2'), { writable: true });
      await image.write(start << 20, new Uint8Array(70_000).fill(1));
      await image.discard((start + 2) << 20, 65536);
      await image.close();
    }
    await img('check', '-q', 'image.qcow2');
    // x-dirty-bitmap shows a bitmap's bits as data and holes.
    const dirty = async (bitmap: string): Promise<number[][]> => {
      const server = ['-f', 'qcow2', '-r', '-B', bitmap, '-k', join(folder, 'nbd'), 'image.qcow2'];
      const nbd = run('qemu-nbd', server, folder);
      const options = `driver=nbd,server.type=unix,server.path=${join(folder, 'nbd')},x-dirty-bitmap=qemu:dirty-bitmap:${bitmap}`;
      while (!existsSync(join(folder, 'nbd'))) await new Promise((done) => setTimeout(done, 20));
      const map = await img('map', '--output=json', '--image-opts', options);
      await nbd;
      rmSync(join(folder, 'nbd'), { force: true });
      return JSON.parse(map.stdout)
        .filter(({ data }: { data: boolean }) => !data)
        .map(({ start, length }: { start: number; length: number }) => [start, length]);
    };
    expect(await dirty('on')).toEqual([
      [1 << 20, 131072],
      [3 << 20, 65536],
      [5 << 20, 131072],
      [7 << 20, 65536],
    ]);
    expect(await dirty('off')).toEqual([]);
  });

  it('of a writer that died are marked in use', async () => {
    const folder = folderWith(new Map());
    const img = (...args: string[]) => runOk('qemu-img', args, folder);
    await img('create', '-q', '-f', 'qcow2', 'image.qcow2', '8M');
    await img('bitmap', '--add', 'image.qcow2', 'on');
    const image = await openImage(join(folder, 'image.qcow2'), { writable: true });
    await image.write(0, new Uint8Array(10));
    await image.flush();
    writeFileSync(join(folder, 'left.qcow2'), readFileSync(join(folder, 'image.qcow2')));
    await image.close();
    const { stdout } = await img('info', 'left.qcow2');
    expect(stdout).toContain('in-use');
    expect((await img('info', 'image.qcow2')).stdout).not.toContain('in-use');
    await img('check', '-q', 'left.qcow2');
  });
});
