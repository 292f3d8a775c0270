import { readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { qcow2 } from './command.ts';

let dir: string;
const home = process.cwd();
const qemuImg = (...args: string[]) => runOk('qemu-img', args, dir);
const qemuIo = (image: string, ...commands: string[]) =>
  runOk('qemu-io', [...commands.flatMap((command) => ['-c', command]), image], dir);
const create = (...args: string[]) => qemuImg('create', '-q', '-f', 'qcow2', ...args);

beforeAll(async () => {
  dir = makeTempDir('compare');
  process.chdir(dir);
  const content = makeContent('text', 4 << 20);
  content.fill(0, 1 << 20, 3 << 20);
  writeFileSync('data', content);
  writeFileSync('longer', Buffer.concat([content, Buffer.alloc(1 << 20)]));
  writeFileSync('odd', Buffer.concat([content, Buffer.from([0, 0, 7])]));
  await qemuImg('create', '-q', '-f', 'raw', 'hole', '4M');
  await qemuImg('convert', '-O', 'qcow2', 'data', 'plain');
  await qemuImg('convert', '-O', 'qcow2', '-c', 'data', 'compressed');
  await create('-o', 'cluster_size=4k', 'empty', '4M');
  await create('zeroed', '4M');
  await qemuIo('zeroed', 'write -z 0 4M');
  await create('reserved', '4M');
  await qemuIo('reserved', 'write 0 4M', 'write -z 0 4M');
  await create('written', '4M');
  await qemuIo('written', 'write -P 0 2M 2M', 'write -P 0 0 2M');
  await create('-o', 'preallocation=metadata', 'mapped', '4M');
  await qemuIo('mapped', 'write -P 5 1M 64k');
  await create('-b', 'plain', '-F', 'qcow2', 'overlay', '6M');
  await qemuIo('overlay', 'write -P 6 5M 64k', 'write -z 0 64k');
  await create('-o', 'extended_l2=on', 'subclusters', '4M');
  await qemuIo('subclusters', 'write 1M 2k', 'write -z 1028k 2k');
}, 30_000);
afterAll(() => {
  process.chdir(home);
  removeTempDir(dir);
});

const IMAGES =
  'data longer odd hole plain compressed empty zeroed reserved written mapped overlay subclusters'.split(
    ' ',
  );

/** Runs both; the status and what is printed must be the same. */
async function expectSame(...args: string[]): Promise<void> {
  const { status, stdout } = await run('qemu-img', ['compare', ...args], dir);
  const ours = await qcow2('compare', ...args);
  expect([args, ours.status, ours.stdout]).toEqual([args, status, stdout]);
  expect(ours.stderr).toBe('');
}

describe('compare', () => {
  it.each(IMAGES)('of %s with each other image is what qemu-img says', async (name) => {
    for (const other of IMAGES.slice(IMAGES.indexOf(name))) {
      await expectSame(name, other);
      await expectSame('-s', other, name);
    }
  });

  it('knows the formats it is told, and quiet and progress', async () => {
    await expectSame('-f', 'raw', 'plain', 'plain');
    await expectSame('-F', 'raw', 'plain', 'plain');
    await expectSame('-f', 'raw', '-F', 'raw', 'plain', 'plain');
    await expectSame('-q', 'plain', 'hole');
    await expectSame('-pq', 'plain', 'data');
    await expectSame('-T', 'none', '-U', 'plain', 'data');
    const described = ['driver=raw,file.filename=data', 'driver=qcow2,file.filename=plain'];
    await expectSame('--image-opts', ...described);
    const { status, stdout } = await qcow2('compare', '-p', 'plain', 'data');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^( {4}\(\d+\.\d\d\/100%\)\r)+Images are identical\.\n\n$/);
  });

  it('tells different block statuses where qemu-img does', async () => {
    const step = fc.record({
      command: fc.constantFrom('write -P 0', 'write -z', 'write -zu', 'discard', 'write -c -P 0'),
      cluster: fc.nat(63),
      clusters: fc.integer({ min: 1, max: 64 }),
    });
    const steps = fc.array(step, { minLength: 1, maxLength: 3 });
    const clusterSizes = fc.constantFrom('64k', '4k', '32k');
    const io = (list: readonly { command: string; cluster: number; clusters: number }[]) =>
      list.map(({ command, cluster, clusters }) => {
        const length = command.startsWith('write -c') ? 1 : Math.min(clusters, 64 - cluster);
        return `${command} ${cluster * 65536} ${length * 65536}`;
      });
    await fc.assert(
      fc.asyncProperty(steps, steps, clusterSizes, async (first, second, clusterSize) => {
        await create('-o', `cluster_size=${clusterSize}`, 'first', '4M');
        await create('second', '4M');
        const both = io(first).filter((line) => !line.startsWith('write -c'));
        await qemuIo('first', 'read 0 1', ...both);
        // Not every command works where there is data already: what is left is an image all the same.
        const commands = [...both, ...io(second)].flatMap((command) => ['-c', command]);
        await run('qemu-io', [...commands, 'second'], dir);
        await expectSame('-s', 'first', 'second');
        await expectSame('-s', 'second', 'zeroed');
      }),
      { numRuns: 15 },
    );
  }, 30_000);
});

describe('errors of compare', () => {
  it.each([
    ['nothere plain', 2],
    ['plain nothere', 2],
    ['plain .', 2],
    ['-f vmdk plain plain', 2],
    ['-f qcow2 data plain', 2],
    ['-T fast plain plain', 2],
    ['plain', 1],
    ['plain plain plain', 1],
    ['-x plain plain', 1],
  ] as const)('%s ends with status %i, as qemu-img', async (line, expected) => {
    const args = line.split(' ');
    const { status } = await run('qemu-img', ['compare', ...args], dir);
    const ours = await qcow2('compare', ...args);
    expect([ours.status, status, ours.stdout]).toEqual([expected, expected, '']);
    expect(ours.stderr).toMatch(/^qcow2: [^\n]+\n$/);
  });

  /** Copies of an image with one L2 entry, or the bytes it points to, replaced. */
  function breakEntry(source: string, target: string, entry: bigint | 'data'): void {
    const bytes = readFileSync(source);
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
    const host = Number(bytes.readBigUInt64BE(l2) & 0x003f_ffff_ffff_ffffn);
    if (entry === 'data') bytes.fill(0xff, host, host + 512);
    else bytes.writeBigUInt64BE(entry, l2);
    writeFileSync(target, bytes);
  }

  it('tells failing to map from failing to read', async () => {
    breakEntry('plain', 'unmapped', 0x8000_0000_0005_0200n);
    breakEntry('compressed', 'unreadable', 'data');
    for (const [name, expected] of [
      ['unmapped', 3],
      ['unreadable', 4],
    ] as const) {
      const copy = `${name}-copy`;
      writeFileSync(copy, readFileSync(name));
      const { status } = await run('qemu-img', ['compare', copy, 'data'], dir);
      const ours = await qcow2('compare', name, 'data');
      expect([name, ours.status, status]).toEqual([name, expected, expected]);
      expect(ours.stderr).toMatch(/^qcow2: [^\n]+\n$/);
    }
  });
});
