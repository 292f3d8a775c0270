import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImage } from '../../src/node/open-image.ts';
import { dirtyGranules } from '../crash/bitmaps.ts';
import { readAll } from '../crash/verdict.ts';
import { makeKind, WRITE_KINDS, type WriteKind } from '../image/write-kinds.ts';
import { firstDifference, stepsOn, type WriteStep } from '../image/write-model.ts';
import { run, runOk } from '../support/run.ts';
import { Shell } from '../support/shell.ts';
import { makeMemoryDir, removeTempDir } from '../support/temp.ts';

const RUNS = Number(process.env.QCOW2_WRITE_RUNS ?? 8);
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
  root = makeMemoryDir('write-differential');
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

/** What we read of an image: its disk, its snapshots, and its bitmaps with their bits. */
async function readByUs(folder: string, kind: WriteKind): Promise<[string, Uint8Array][]> {
  const path = join(folder, 'image.qcow2');
  const found: [string, Uint8Array][] = [];
  for (const snapshot of [undefined, ...kind.snapshots]) {
    const image = await openImage(path, { snapshot, sync: true });
    found.push([snapshot ?? 'disk', await readAll(image)]);
    for (const entry of snapshot === undefined ? await image.bitmaps() : []) {
      const dirty = [...(await dirtyGranules(image, entry))].sort((x, y) => x - y);
      found.push([`${entry.name.text} ${entry.flags}`, new TextEncoder().encode(dirty.join())]);
    }
    await image.close();
  }
  return found;
}

const QEMU_IO = 'qemu-io -d unmap -f qcow2';
/** qemu-io's status does not tell of all that fails. */
const nothingFails = (line: string): string =>
  `${line} > said 2>&1 && ! grep -iE 'fail|error|invalid' said`;

describe(`what we write and what qemu-io writes is the same disk: ${RUNS} sequences for each of ${KINDS.length} kinds, seed ${SEED}`, () => {
  it.concurrent.each(WRITE_KINDS.filter(({ name }) => KINDS.includes(name)))(
    '$name',
    async (kind) => {
      using shell = new Shell();
      const template = folderWith(new Map());
      const image = await makeKind(kind, template);
      removeTempDir(template);
      await fc.assert(
        fc.asyncProperty(stepsOn(kind), async (drawn) => {
          const steps = drawn.map(inSectors);
          const [ours, theirs] = [folderWith(image.files), folderWith(image.files)];
          await writeOurs(ours, steps);
          const commands = steps.flatMap(command).map((each) => `-c '${each}'`);
          const line = `${QEMU_IO} ${commands.join(' ')} image.qcow2`;
          await shell.run(`cd ${theirs} && ${nothingFails(line)}`);
          // QEMU reads both, and so do we.
          const compare = `qemu-img compare -q image.qcow2 ${theirs}/image.qcow2`;
          await shell.run(`cd ${ours} && qemu-img check -q image.qcow2 && ${compare}`);
          const [our, their] = [await readByUs(ours, kind), await readByUs(theirs, kind)];
          expect(our.map(([name]) => name)).toEqual(their.map(([name]) => name));
          for (const [i, [name, bytes]] of our.entries())
            expect(firstDifference(bytes, their[i]![1]), name).toBe(-1);
          for (const [name, disk] of image.snapshots)
            expect(firstDifference(new Map(our).get(name)!, disk), name).toBe(-1);
          // And each goes on where the other stopped.
          const more = `${QEMU_IO} -c 'write -P 200 64k 200k' -c 'read -P 200 64k 200k' image.qcow2`;
          await shell.run(`cd ${ours} && ${nothingFails(more)} && qemu-img check -q image.qcow2`);
          await writeOurs(theirs, [{ do: 'write', at: 65536, length: 200 * 1024, fill: 200 }]);
          await shell.run(`cd ${ours} && ${compare} && qemu-img check -q ${theirs}/image.qcow2`);
          removeTempDir(ours);
          removeTempDir(theirs);
        }),
        { numRuns: RUNS, seed: SEED },
      );
    },
  );
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
