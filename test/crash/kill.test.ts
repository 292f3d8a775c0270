import { afterAll, describe, expect, it } from 'vitest';
import { makeMemoryDir, removeTempDir } from '../support/temp.ts';
import { filesOf, type KillCase, killAtRandom } from './kill.ts';
import { CHANGING } from './kill-changes.ts';
import { type Expectation, MAKING, type Verb } from './kill-verbs.ts';
import { PagedStorage } from './paged-storage.ts';
import { type Files, judge, judgeWithQemu } from './verdict.ts';

/** Times each verb is killed, in all its cases together. QCOW2_KILLS asks for others. */
const KILLS = Number(process.env.QCOW2_KILLS ?? 50);
/** Of them the least in any case. */
const LEAST = Math.ceil(KILLS * 0.2);
/** Of the states a killed command leaves, qemu-img looks at one in so many; at what is done always. */
const QEMU_ONE_IN = 2;
const SEED = Number(process.env.QCOW2_KILL_SEED ?? Date.now() % 2 ** 32);

/** A command that changes the file `image`, or makes the file `target`, which is there or whole. */
function killing({ name, argv, prepare }: Verb, file: 'image' | 'target'): KillCase {
  let expected: Expectation | undefined;
  let states = 0;
  return {
    name,
    argv: argv.split(' ').map((word) => (word === "''" ? '' : word)),
    async prepare(folder) {
      expected = await prepare(folder);
    },
    async judge(folder, ended) {
      const files = filesOf(folder);
      if (!files.has(file)) return ended ? `there is no ${file}` : undefined;
      const state = new Map([...files].map(([of, bytes]) => [of, new PagedStorage(of, bytes)]));
      const forQemu = ended || states++ % QEMU_ONE_IN === 0;
      return judgeState(state, file, expected!, { ended, forQemu });
    },
  };
}

async function judgeState(
  state: Files,
  file: string,
  { backing, also, ...expected }: Expectation,
  { ended, forQemu }: { ended: boolean; forQemu: boolean },
): Promise<string | undefined> {
  const cut = ended ? 1 : 0;
  const images = [
    {
      ...expected,
      file,
      // A repair that has ended leaves nothing to another one.
      isDamaged: !ended && expected.isDamaged === true,
      ...(also && { also: (image: Parameters<typeof also>[0]) => also(image, ended) }),
    },
    ...(backing?.format === 'qcow2' ? [{ ...backing, file: 'backing' }] : []),
  ];
  if (backing?.format === 'raw') {
    const { bytes } = state.get('backing')!;
    const sizes = backing.sizes!(cut);
    if (!sizes.includes(bytes.length)) return `backing: ${bytes.length} bytes, not ${sizes}`;
    const fault = backing.disk.findFault(cut, bytes);
    if (fault !== undefined) return `backing: ${fault}`;
  }
  for (const image of images) {
    const fault = await judge(state, cut, image);
    if (fault !== undefined) return fault;
  }
  if (!forQemu) return undefined;
  const scratch = makeMemoryDir('killed');
  try {
    for (const image of images) {
      const fault = await judgeWithQemu(state, cut, image, scratch);
      if (fault !== undefined) return fault;
    }
    return undefined;
  } finally {
    removeTempDir(scratch);
  }
}

const verbOf = ({ argv }: Pick<KillCase, 'argv'>): string => argv[0]!;
const ALL = [
  ...MAKING.map((verb) => killing(verb, 'target')),
  ...CHANGING.map((verb) => killing(verb, 'image')),
];
const CASES = ALL.map((killCase) => {
  const cases = ALL.filter((other) => verbOf(other) === verbOf(killCase)).length;
  return { ...killCase, kills: Math.max(LEAST, Math.ceil(KILLS / cases)) };
});

/** Kills of each verb, and those of them midway. */
const killed = new Map<string, { all: number; midway: number }>();

afterAll(() => {
  for (const [verb, { all, midway }] of killed)
    console.log(`${verb}: killed ${all} times, ${midway} of them midway`);
});

describe(`a command that is killed (QCOW2_KILL_SEED=${SEED})`, () => {
  it.each(CASES)('$name', { timeout: 120_000 }, async ({ kills, ...killCase }) => {
    const report = await killAtRandom(killCase, { seed: SEED, kills });
    expect(report.failure).toBeUndefined();
    expect(report.killed).toBeGreaterThanOrEqual(kills);
    const { all, midway } = killed.get(verbOf(killCase)) ?? { all: 0, midway: 0 };
    const sum = { all: all + report.killed, midway: midway + report.midway };
    killed.set(verbOf(killCase), sum);
    console.log(
      `${killCase.name}: killed ${report.killed} times, ${report.midway} of them midway; ${report.ended} ended; ${report.states} states`,
    );
  });
});
