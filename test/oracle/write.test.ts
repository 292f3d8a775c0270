import { copyFileSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { firstDifference, sha256File, sha256Padded } from '../support/digest.ts';
import { expectedInfo, MIXED, ODD_SOURCES, type Source, TARGETS, type Target } from './targets.ts';
import { qemuImg, qemuIo } from './tools.ts';
import { type CheckReport, expectClean, expectSame, fail, succeed, Workshop } from './workshop.ts';

const TIME = { timeout: 120_000 };
const MIB = 1 << 20;
const OUT = 'out.qcow2';

const workshop = new Workshop('oracle-write');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

function convertArgs(source: string, { options, flags = [] }: Target, out = OUT): string[] {
  return ['convert', '-f', 'raw', '-O', 'qcow2', ...flags, '-o', options, source, out];
}

/** `-c` compresses and nothing else does, zeros take no room, preallocation takes it all. */
function expectCounts(report: CheckReport, source: Source, { options, flags = [] }: Target): void {
  const allocated = report['allocated-clusters'] ?? 0;
  const compressed = report['compressed-clusters'] ?? 0;
  const holdsText = source.file === MIXED.file || source.file === 'ragged.raw';
  if (!flags.includes('-c')) expect(compressed).toBe(0);
  else if (holdsText) expect(compressed).toBeGreaterThan(0);
  const full = /preallocation|data_file_raw/.test(options);
  const zerosMustBeWritten = flags.includes('-B') && options.includes('compat=0.10');
  if (full) expect(allocated).toBe(report['total-clusters']);
  else if (source.file === 'zero.raw' && !zerosMustBeWritten) expect(allocated).toBe(0);
}

/** The image is sound, holds the source's disk and has the options that were asked for. */
async function expectTarget(source: Source, target: Target, dir: string): Promise<void> {
  expectCounts(await expectClean(OUT, dir), source, target);
  await expectSame(['raw', source.file], ['qcow2', OUT], dir);
  const info = JSON.parse((await qemuImg(['info', '--output=json', OUT], dir)).stdout);
  expect(info).toMatchObject({
    ...expectedInfo(target),
    'virtual-size': Math.ceil(source.length / 512) * 512,
  });
  const { offset, length, byte } = source.known;
  await qemuIo(OUT, [`read -P ${byte} ${offset} ${length}`], dir);
}

describe.concurrent('convert to qcow2', () => {
  for (const [row, target] of TARGETS.entries()) {
    const odd = ODD_SOURCES[row % ODD_SOURCES.length] ?? MIXED;
    for (const source of [MIXED, odd]) {
      const name = [source.file, ...(target.flags ?? []), target.options].join(' ');
      test(name, TIME, () =>
        workshop.inFolder(async (dir) => {
          await succeed(convertArgs(source.file, target), dir);
          await expectTarget(source, target, dir);
        }),
      );
    }
  }

  test('a raw data file alone is the disk', TIME, () =>
    workshop.inFolder(async (dir) => {
      const options = 'data_file=out.data,data_file_raw=on';
      await succeed(convertArgs(MIXED.file, { options }), dir);
      expect(sha256File(join(dir, 'out.data'))).toBe(sha256File(join(dir, MIXED.file)));
    }),
  );

  test('only an overlay’s own clusters are copied above the same backing file', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 -b base.raw -F raw over.qcow2'.split(' '), dir);
      await qemuIo('over.qcow2', ['write -P 1 64k 64k', 'write -z 1M 128k'], dir);
      await succeed('convert -O qcow2 -B base.raw -F raw over.qcow2 out.qcow2'.split(' '), dir);
      await expectClean(OUT, dir);
      await expectSame(['qcow2', 'over.qcow2'], ['qcow2', OUT], dir);
      const map = JSON.parse((await qemuImg(['map', '--output=json', OUT], dir)).stdout);
      const below = map.filter((entry: { depth: number }) => entry.depth === 1);
      const length = below.reduce(
        (sum: number, entry: { length: number }) => sum + entry.length,
        0,
      );
      expect(length).toBe(3 * MIB - 64 * 1024 - 128 * 1024);
    }),
  );

  test('a snapshot becomes an image of its own', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('convert -f raw -O qcow2 mixed.raw with.qcow2'.split(' '), dir);
      await qemuImg('snapshot -c then with.qcow2'.split(' '), dir);
      await qemuIo('with.qcow2', ['write -P 7 0 2M'], dir);
      await succeed('convert -l then -O qcow2 with.qcow2 out.qcow2'.split(' '), dir);
      await expectTarget(MIXED, { options: 'cluster_size=64k' }, dir);
    }),
  );
});

describe.concurrent('the same bytes every time', () => {
  for (const flags of [[], ['-c'], ['-c', '-o', 'compression_type=zstd,cluster_size=4k']]) {
    test(`convert ${flags.join(' ')}`, TIME, () =>
      workshop.inFolder(async (dir) => {
        for (const [at, jobs] of ['1', '2', '8', '8'].entries()) {
          const args = ['convert', '-m', jobs, '-f', 'raw', '-O', 'qcow2', ...flags, MIXED.file];
          await succeed([...args, `out-${at}.qcow2`], dir);
          const [first, now] = [join(dir, 'out-0.qcow2'), join(dir, `out-${at}.qcow2`)];
          expect(firstDifference(first, now), `first differing byte with -m ${jobs}`).toBe(-1);
        }
        await expectClean('out-0.qcow2', dir);
      }),
    );
  }
});

describe.concurrent('round trips', () => {
  for (const source of [MIXED, ...ODD_SOURCES]) {
    test(source.file, TIME, () =>
      workshop.inFolder(async (dir) => {
        const hops = [
          '-f raw -O qcow2 FROM a.qcow2',
          '-c -O qcow2 -o cluster_size=4k a.qcow2 b.qcow2',
          '-c -O qcow2 -o compression_type=zstd b.qcow2 c.qcow2',
          '-O qcow2 -o data_file=d.data,extended_l2=on c.qcow2 d.qcow2',
          '-O qcow2 -o compat=0.10,cluster_size=512 d.qcow2 e.qcow2',
          '-O raw e.qcow2 back.raw',
        ];
        for (const hop of hops) {
          await succeed(['convert', ...hop.replace('FROM', source.file).split(' ')], dir);
        }
        const length = Math.ceil(source.length / 512) * 512;
        expect(statSync(join(dir, 'back.raw')).size).toBe(length);
        expect(sha256File(join(dir, 'back.raw'))).toBe(
          sha256Padded(join(dir, source.file), length),
        );
      }),
    );
  }
});

describe.concurrent('several inputs', () => {
  for (const format of ['raw', 'qcow2']) {
    test(`are put one behind the other, to ${format}`, TIME, () =>
      workshop.inFolder(async (dir) => {
        const inputs = ['-f', 'raw', 'ragged.raw', MIXED.file, 'tiny.raw', 'random.raw'];
        await qemuImg(['convert', '-O', 'raw', ...inputs, 'theirs.raw'], dir);
        await succeed(['convert', '-O', format, ...inputs, 'ours'], dir);
        await qemuImg(['convert', '-f', format, '-O', 'raw', 'ours', 'ours.raw'], dir);
        expect(sha256File(join(dir, 'ours.raw'))).toBe(sha256File(join(dir, 'theirs.raw')));
        if (format === 'qcow2') await expectClean('ours', dir);
      }),
    );
  }
});

describe.concurrent('-S', () => {
  test('0 writes every byte of a raw target', TIME, () =>
    workshop.inFolder(async (dir) => {
      await succeed('convert -S 0 -f raw -O raw mixed.raw full.raw'.split(' '), dir);
      const { size, blocks } = statSync(join(dir, 'full.raw'));
      expect(sha256File(join(dir, 'full.raw'))).toBe(sha256File(join(dir, MIXED.file)));
      expect(blocks * 512).toBeGreaterThanOrEqual(size);
    }),
  );

  test('0 allocates every cluster of a qcow2 target', TIME, () =>
    workshop.inFolder(async (dir) => {
      await succeed('convert -S 0 -f raw -O qcow2 mixed.raw out.qcow2'.split(' '), dir);
      await expectTarget(MIXED, { options: 'cluster_size=64k' }, dir);
      const map = JSON.parse((await qemuImg(['map', '--output=json', OUT], dir)).stdout);
      expect(map.every((entry: { offset?: number }) => entry.offset !== undefined)).toBe(true);
    }),
  );

  for (const size of ['512', '64k', '1M']) {
    test(`${size} keeps the disk as it is`, TIME, () =>
      workshop.inFolder(async (dir) => {
        await succeed(['convert', '-S', size, '-f', 'raw', '-O', 'qcow2', MIXED.file, OUT], dir);
        await expectTarget(MIXED, { options: 'cluster_size=64k' }, dir);
      }),
    );
  }

  test('a raw target is sparse where the source is zero', TIME, () =>
    workshop.inFolder(async (dir) => {
      await succeed('convert -f raw -O raw zero.raw sparse.raw'.split(' '), dir);
      const { size, blocks } = statSync(join(dir, 'sparse.raw'));
      expect(size).toBe(2 * MIB);
      expect(blocks * 512).toBeLessThan(64 * 1024);
    }),
  );
});

describe.concurrent('-n writes into a target that exists', () => {
  const into = '-n -f raw -O qcow2 mixed.raw out.qcow2'.split(' ');

  test('zeros replace what was there', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 -o cluster_size=4k out.qcow2 5M'.split(' '), dir);
      await qemuIo(OUT, ['write -P 0xee 0 4M'], dir);
      await succeed(['convert', ...into], dir);
      await expectClean(OUT, dir);
      await expectSame(['raw', MIXED.file], ['qcow2', OUT], dir);
      await qemuIo(OUT, ['read -P 0 4M 1M'], dir);
    }),
  );

  test('zeros hide a backing file', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 -b base.raw -F raw out.qcow2 4M'.split(' '), dir);
      await succeed(['convert', ...into], dir);
      await expectClean(OUT, dir);
      await expectSame(['raw', MIXED.file], ['qcow2', OUT], dir);
    }),
  );

  test('a snapshot of the target stays what it was', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('convert -c -f raw -O qcow2 base.raw out.qcow2'.split(' '), dir);
      await qemuImg('resize -q out.qcow2 4M'.split(' '), dir);
      await qemuImg('snapshot -c then out.qcow2'.split(' '), dir);
      await succeed(['convert', ...into], dir);
      await expectClean(OUT, dir);
      await expectSame(['raw', MIXED.file], ['qcow2', OUT], dir);
      await qemuImg('convert -l then -O raw out.qcow2 then.raw'.split(' '), dir);
      await expectSame(['raw', 'base.raw'], ['raw', 'then.raw'], dir);
    }),
  );

  test('a data file is written in place', TIME, () =>
    workshop.inFolder(async (dir) => {
      const options = ['-o', 'data_file=out.data,data_file_raw=on'];
      await qemuImg(['create', '-q', '-f', 'qcow2', ...options, OUT, '4M'], dir);
      await qemuIo(OUT, ['write -P 0xee 0 4M'], dir);
      await succeed(['convert', ...into], dir);
      await expectClean(OUT, dir);
      expect(sha256File(join(dir, 'out.data'))).toBe(sha256File(join(dir, MIXED.file)));
    }),
  );

  test('--target-is-zero leaves zeros unallocated', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 out.qcow2 4M'.split(' '), dir);
      await succeed(['convert', '--target-is-zero', ...into], dir);
      await expectTarget(MIXED, { options: 'cluster_size=64k' }, dir);
      const map = JSON.parse((await qemuImg(['map', '--output=json', OUT], dir)).stdout);
      expect(map.some((entry: { present?: boolean }) => entry.present === false)).toBe(true);
    }),
  );

  test('a raw target keeps what lies behind the source’s end', TIME, () =>
    workshop.inFolder(async (dir) => {
      copyFileSync(join(dir, 'base.raw'), join(dir, 'out.raw'));
      await succeed('convert -n -f raw -O raw random.raw out.raw'.split(' '), dir);
      copyFileSync(join(dir, 'base.raw'), join(dir, 'theirs.raw'));
      await qemuImg('convert -n -f raw -O raw random.raw theirs.raw'.split(' '), dir);
      expect(firstDifference(join(dir, 'out.raw'), join(dir, 'theirs.raw'))).toBe(-1);
    }),
  );

  test('a raw target has holes where the source has none of its own', TIME, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 sparse.qcow2 64M'.split(' '), dir);
      writeFileSync(join(dir, 'full.raw'), new Uint8Array(64 << 20).fill(7));
      writeFileSync(join(dir, 'empty.raw'), '');
      truncateSync(join(dir, 'empty.raw'), 64 << 20);
      for (const target of ['full.raw', 'empty.raw']) {
        await succeed(['convert', '-n', '-O', 'raw', 'sparse.qcow2', target], dir);
        await qemuImg(['compare', '-f', 'qcow2', '-F', 'raw', 'sparse.qcow2', target], dir);
        expect(statSync(join(dir, target)).blocks).toBeLessThan(16);
      }
    }),
  );
});

/** Everything after `convert`; `-n` lines name a target that is there and must stay. */
const REFUSED: readonly string[] = [
  '-O qcow2 not-there.raw out.qcow2',
  '-f qcow2 -O qcow2 mixed.raw out.qcow2',
  '-f raw -O no_such_format mixed.raw out.qcow2',
  '-m 0 -f raw -O qcow2 mixed.raw out.qcow2',
  '-m 17 -f raw -O qcow2 mixed.raw out.qcow2',
  '-S 1000 -f raw -O qcow2 mixed.raw out.qcow2',
  '-c -f raw -O raw mixed.raw out.qcow2',
  '-f raw -O qcow2 -o cluster_size=3000 mixed.raw out.qcow2',
  '-f raw -O qcow2 -o refcount_bits=7 mixed.raw out.qcow2',
  '-c -f raw -O qcow2 -o compat=0.10,compression_type=zstd mixed.raw out.qcow2',
  '-c -f raw -O qcow2 -o preallocation=metadata mixed.raw out.qcow2',
  '-c -S 0 -n -f raw -O raw mixed.raw base.raw',
  '-l no_such_snapshot -f qcow2 -O qcow2 there.qcow2 out.qcow2',
  '--target-is-zero -f raw -O qcow2 mixed.raw out.qcow2',
  '-n -f raw -O qcow2 mixed.raw out.qcow2',
  '-n -f raw -O qcow2 mixed.raw there.qcow2',
  '-B base.raw -f raw -O qcow2 mixed.raw out.qcow2',
];

describe.concurrent('convert refuses what qemu-img refuses', () => {
  for (const line of REFUSED) {
    test(line, TIME, () =>
      workshop.inFolder(async (dir) => {
        await qemuImg('create -q -f qcow2 there.qcow2 1M'.split(' '), dir);
        const before = readdirSync(dir);
        await fail(['convert', ...line.split(' ')], dir);
        expect(readdirSync(dir)).toEqual(before);
        await expectClean('there.qcow2', dir);
      }),
    );
  }
});
