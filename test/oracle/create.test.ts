import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { firstDifference } from '../support/digest.ts';
import { qemuImg } from './tools.ts';
import { expectClean, fail, succeed, Workshop } from './workshop.ts';

const TIME = { timeout: 120_000 };
const OUT = 'out.qcow2';

const workshop = new Workshop('oracle-create');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** Everything after `create -q -f qcow2`, blank-separated. */
const CREATED: readonly string[] = [
  'out.qcow2 1M',
  'out.qcow2 0',
  'out.qcow2 512',
  'out.qcow2 1025',
  'out.qcow2 10G',
  'out.qcow2 2T',
  'out.qcow2 1.5M',
  '-o compat=0.10 out.qcow2 1M',
  '-o compat=0.10 out.qcow2 0',
  '-o compat=v3 out.qcow2 1M',
  '-o cluster_size=512 out.qcow2 1M',
  '-o cluster_size=512 out.qcow2 40M',
  '-o cluster_size=512 out.qcow2 2G',
  '-o cluster_size=512,refcount_bits=64 out.qcow2 200M',
  '-o cluster_size=512,refcount_bits=1 out.qcow2 1G',
  '-o cluster_size=512,compat=0.10 out.qcow2 100M',
  '-o cluster_size=1k,refcount_bits=2 out.qcow2 3M',
  '-o cluster_size=4k,refcount_bits=4 out.qcow2 3M',
  '-o cluster_size=4k,refcount_bits=32 out.qcow2 60G',
  '-o cluster_size=16k,refcount_bits=8 out.qcow2 3M',
  '-o cluster_size=256k,refcount_bits=32 out.qcow2 3M',
  '-o cluster_size=2M,refcount_bits=64 out.qcow2 3M',
  '-o cluster_size=2M,compat=0.10 out.qcow2 40G',
  '-o lazy_refcounts=on out.qcow2 1M',
  '-o lazy_refcounts=on,cluster_size=512 out.qcow2 1M',
  '-o compression_type=zstd out.qcow2 1M',
  '-o compression_type=zstd,cluster_size=4k,lazy_refcounts=on,refcount_bits=8 out.qcow2 1M',
  '-o extended_l2=on out.qcow2 1M',
  '-o extended_l2=on,cluster_size=16k out.qcow2 1G',
  '-o extended_l2=on,cluster_size=2M,compression_type=zstd,lazy_refcounts=on out.qcow2 1G',
  '-o preallocation=off out.qcow2 1M',
  '-o preallocation=metadata out.qcow2 1M',
  '-o preallocation=metadata,cluster_size=512 out.qcow2 300k',
  '-o preallocation=metadata,cluster_size=4k,refcount_bits=1 out.qcow2 5M',
  '-o preallocation=metadata,extended_l2=on out.qcow2 1M',
  '-o preallocation=metadata,compat=0.10 out.qcow2 1M',
  '-o preallocation=metadata,lazy_refcounts=on out.qcow2 1M',
  '-o preallocation=falloc out.qcow2 1M',
  '-o preallocation=falloc,cluster_size=512 out.qcow2 300k',
  '-o preallocation=falloc,cluster_size=4k out.qcow2 0',
  '-o preallocation=full out.qcow2 1M',
  '-o preallocation=full,cluster_size=4k,refcount_bits=64 out.qcow2 5M',
  '-o preallocation=full,compat=0.10,cluster_size=2M out.qcow2 3M',
  '-o data_file=out.data out.qcow2 1M',
  '-o data_file=out.data,cluster_size=512 out.qcow2 1025',
  '-o data_file=out.data,extended_l2=on,lazy_refcounts=on out.qcow2 1M',
  '-o data_file=out.data,data_file_raw=on out.qcow2 1M',
  '-o data_file=out.data,data_file_raw=on,cluster_size=512 out.qcow2 300k',
  '-o data_file=out.data,data_file_raw=on,extended_l2=on,cluster_size=2M out.qcow2 9M',
  '-o data_file=out.data,preallocation=metadata out.qcow2 1M',
  '-o data_file=out.data,data_file_raw=on,preallocation=full out.qcow2 1M',
  '-b base.raw -F raw out.qcow2',
  '-b base.raw -F raw out.qcow2 1M',
  '-b base.raw -F raw out.qcow2 9M',
  '-b base.raw -F raw -o compat=0.10 out.qcow2',
  '-b base.raw -F raw -o cluster_size=512 out.qcow2 1M',
  '-b ragged.raw -F raw out.qcow2',
  '-b base.raw -F raw -o extended_l2=on,refcount_bits=64 out.qcow2',
  '-b base.raw -F raw -o preallocation=metadata,extended_l2=on out.qcow2 1M',
  '-b base.raw -F raw -o preallocation=falloc,extended_l2=on out.qcow2 1M',
  '-b base.raw -F raw -o preallocation=full,extended_l2=on,cluster_size=16k out.qcow2 9M',
  '-b base.raw -F raw -o preallocation=full,extended_l2=on,data_file=out.data out.qcow2 1M',
  '-o preallocation=full,extended_l2=on out.qcow2 1M',
  '-b base.raw -F raw -o data_file=out.data out.qcow2',
  '-o backing_file=base.raw,backing_fmt=raw out.qcow2',
  '-u -b not-there.qcow2 -F qcow2 out.qcow2 1M',
  '-o size=1M out.qcow2',
];

/**
 * Where our layout differs on purpose: qemu-img allocates the final refcount structures a second time
 * before it preallocates space, and scatters refcount blocks through a large L1 table. The image is
 * held to what it says and maps instead.
 */
const OWN_LAYOUT =
  /^(?!.*data_file).*preallocation=(falloc|full)|cluster_size=512.* (2G|200M)$|metadata,cluster_size=512/;

/** What both tools refuse; nothing is left behind. */
const REFUSED: readonly string[] = [
  'out.qcow2',
  'out.qcow2 -1M',
  'out.qcow2 1X',
  '-o cluster_size=256 out.qcow2 1M',
  '-o cluster_size=3000 out.qcow2 1M',
  '-o cluster_size=4M out.qcow2 1M',
  '-o refcount_bits=3 out.qcow2 1M',
  '-o refcount_bits=128 out.qcow2 1M',
  '-o compat=0.10,refcount_bits=8 out.qcow2 1M',
  '-o compat=0.10,lazy_refcounts=on out.qcow2 1M',
  '-o compat=0.10,compression_type=zstd out.qcow2 1M',
  '-o compat=0.10,extended_l2=on out.qcow2 1M',
  '-o compat=0.10,data_file=out.data out.qcow2 1M',
  '-o compat=0.9 out.qcow2 1M',
  '-o extended_l2=on,cluster_size=8k out.qcow2 1M',
  '-o data_file_raw=on out.qcow2 1M',
  '-o compression_type=lz4 out.qcow2 1M',
  '-o preallocation=some out.qcow2 1M',
  '-o no_such_option=1 out.qcow2 1M',
  '-o cluster_size=512 out.qcow2 200G',
  '-b base.raw out.qcow2',
  '-b not-there.raw -F raw out.qcow2',
  '-b base.raw -F raw -o data_file=out.data,data_file_raw=on out.qcow2',
  '-b base.raw -F no_such_format out.qcow2',
  '-o preallocation=metadata -b base.raw -F raw out.qcow2',
  '-o preallocation=falloc -b base.raw -F raw out.qcow2',
  '-o preallocation=full -b base.raw -F raw out.qcow2',
  '-o preallocation=full,data_file=out.data -b base.raw -F raw out.qcow2',
];

function createArgs(line: string): string[] {
  return ['create', '-q', '-f', 'qcow2', ...line.split(' ')];
}

/** Both tools write the same name in the same folder; the oracle’s file then moves one below. */
describe.concurrent('create makes the file qemu-img makes', () => {
  for (const line of CREATED) {
    test(line, TIME, () =>
      workshop.inFolder(async (dir) => {
        const theirs = join(dir, 'theirs');
        mkdirSync(theirs);
        await qemuImg(createArgs(line), dir);
        for (const file of readdirSync(dir)) {
          if (file.startsWith('out.')) renameSync(join(dir, file), join(theirs, file));
        }
        await succeed(createArgs(line), dir);
        if (line.startsWith('-b base.raw'))
          linkSync(join(dir, 'base.raw'), join(theirs, 'base.raw'));
        if (OWN_LAYOUT.test(line)) await expectSameImage(line, dir);
        else
          for (const file of readdirSync(theirs)) {
            const at = firstDifference(join(theirs, file), join(dir, file));
            expect(at, `first differing byte of ${file}`).toBe(-1);
          }
        if (!line.includes('not-there')) await expectClean(OUT, dir);
      }),
    );
  }
});

/** Same description, same bytes mapped, and the space reserved that was asked for. */
async function expectSameImage(line: string, dir: string): Promise<void> {
  const read = async (file: string) => {
    const json = async (verb: string) =>
      JSON.parse((await qemuImg([verb, '--output=json', file], dir)).stdout);
    const { 'actual-size': allocated, filename: _, ...info } = await json('info');
    delete info['full-backing-filename'];
    const map: { length: number; data: boolean }[] = await json('map');
    const mapped = map.filter((entry) => entry.data).reduce((sum, entry) => sum + entry.length, 0);
    return { allocated, same: { info, mapped } };
  };
  const [ours, theirs] = [await read(OUT), await read(join('theirs', OUT))];
  expect(ours.same).toEqual(theirs.same);
  if (/falloc|full/.test(line))
    expect(ours.allocated).toBeGreaterThanOrEqual(ours.same.info['virtual-size']);
}

describe.concurrent('create refuses what qemu-img refuses', () => {
  for (const line of REFUSED) {
    test(line, TIME, () =>
      workshop.inFolder(async (dir) => {
        await fail(createArgs(line), dir);
        expect(readdirSync(dir)).not.toContain(OUT);
      }),
    );
  }

  test('a file that is there is made anew', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg(createArgs('out.qcow2 10M'), dir);
      await succeed(createArgs('out.qcow2 1M'), dir);
      const ours = readFileSync(join(dir, OUT));
      await qemuImg(createArgs('theirs.qcow2 1M'), dir);
      expect(ours.equals(readFileSync(join(dir, 'theirs.qcow2')))).toBe(true);
    }),
  );
});
