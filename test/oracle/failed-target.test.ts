import { copyFileSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256File } from '../support/digest.ts';
import { patch, type Step } from './recipes/recipe.ts';
import { qemuImg } from './tools.ts';
import { failInOneLine, Workshop } from './workshop.ts';

const TIME = { timeout: 60_000 };
const CLUSTER = 65_536;

const workshop = new Workshop('oracle-failed');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** Changes the last allocated entry of the first L2 table: reading begins well and ends badly. */
function breakLastEntry(change: (entry: bigint) => bigint): Step {
  return patch((bytes) => {
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    let last = -1;
    for (let at = l2; at < l2 + CLUSTER; at += 8) if (bytes.readBigUInt64BE(at) !== 0n) last = at;
    if (last < 0) throw new Error('no allocated entry');
    bytes.writeBigUInt64BE(change(bytes.readBigUInt64BE(last)), last);
  });
}

interface Damage {
  readonly name: string;
  readonly flags: readonly string[];
  readonly step: Step;
}

const DAMAGES: readonly Damage[] = [
  {
    name: 'an entry off its cluster boundary',
    flags: [],
    step: breakLastEntry((entry) => entry + 512n),
  },
  {
    name: 'an entry far behind the end of the file',
    flags: [],
    step: breakLastEntry((entry) => entry + (1n << 40n)),
  },
  {
    name: 'a file cut by several clusters',
    flags: [],
    step: async (dir) => truncateSync(join(dir, 'disk.qcow2'), 8 * CLUSTER),
  },
  {
    name: 'a compressed stream that begins in the wrong place',
    flags: ['-c'],
    step: breakLastEntry((entry) => entry + 1n),
  },
  {
    name: 'a zstd stream that begins in the wrong place',
    flags: ['-c', '-o', 'compression_type=zstd'],
    step: breakLastEntry((entry) => entry + 1n),
  },
];

const TARGETS: readonly (readonly string[])[] = [
  ['-O', 'raw'],
  ['-O', 'qcow2'],
  ['-c', '-O', 'qcow2'],
  ['-m', '4', '-O', 'qcow2'],
  ['-O', 'qcow2', '-o', 'data_file=out.data'],
];

async function makeDamaged({ flags, step }: Damage, dir: string): Promise<void> {
  await qemuImg(['convert', ...flags, '-f', 'raw', '-O', 'qcow2', 'mixed.raw', 'disk.qcow2'], dir);
  await step(dir);
}

describe.concurrent('a conversion that fails half-way', () => {
  for (const damage of DAMAGES) {
    test(`${damage.name}: leaves no target`, TIME, () =>
      workshop.inFolder(async (dir) => {
        await makeDamaged(damage, dir);
        const before = readdirSync(dir);
        for (const target of TARGETS) {
          await failInOneLine(['convert', ...target, 'disk.qcow2', 'out.img'], dir);
          expect(readdirSync(dir), target.join(' ')).toEqual(before);
        }
      }),
    );

    test(`${damage.name}: leaves the file that was there`, TIME, () =>
      workshop.inFolder(async (dir) => {
        await makeDamaged(damage, dir);
        copyFileSync(join(dir, 'base.raw'), join(dir, 'out.img'));
        const before = readdirSync(dir);
        for (const target of TARGETS.slice(0, 2)) {
          await failInOneLine(['convert', ...target, 'disk.qcow2', 'out.img'], dir);
          expect(sha256File(join(dir, 'out.img'))).toBe(sha256File(join(dir, 'base.raw')));
          expect(readdirSync(dir)).toEqual(before);
        }
      }),
    );
  }
});

describe.concurrent('reasons are one line', () => {
  const lines = [
    'info not-there.qcow2',
    'info',
    'map -f qcow2 mixed.raw',
    'create -f qcow2 out.qcow2 1X',
    'create -f qcow2 -b not-there.raw -F raw out.qcow2',
    'create -f qcow2 -b base.raw out.qcow2',
    'convert -O qcow2 not-there.raw out.qcow2',
    'convert -B not-there.raw -F raw -f raw -O qcow2 mixed.raw out.qcow2',
    'convert -O no_such_format mixed.raw out.qcow2',
    'convert --no-such-flag mixed.raw out.qcow2',
    'no-such-command',
  ];
  for (const line of lines) {
    test(line, TIME, () =>
      workshop.inFolder(async (dir) => {
        const before = readdirSync(dir);
        await failInOneLine(line.split(' '), dir);
        expect(readdirSync(dir)).toEqual(before);
      }),
    );
  }
});
