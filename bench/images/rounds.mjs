// One row: its contenders in turn, round after round.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { folder, run as runCommand } from '../data.mjs';
import { goalOf } from '../goals.mjs';
import { pairedRatio, spread } from '../statistics.mjs';
import { isDisturbed } from './accounting.mjs';

/** MiB of a file written and removed before each run that writes much; a little more than it writes. */
const RECYCLED_MIB = 1800;
/** Rounds of a row that are made again because others used the machine. */
const MAX_REPEATED = 3;
/** Ours, in each row. */
const PEAK_BYTES = 200 * 2 ** 20;

/**
 * @param {import('./cases.mjs').Case} item
 * @param {import('./contenders.mjs').Contender[]} contenders
 * @param {number} rounds
 */
export async function measureRow(item, contenders, rounds) {
  warm(item.inputs);
  const made = [];
  let repeated = 0;
  for (let turn = 0; made.length < rounds; turn++) {
    const round = await oneRound(item, contenders, turn);
    const isNoisy = Object.values(round).some(isDisturbed);
    if (isNoisy && repeated < MAX_REPEATED) repeated++;
    else made.push({ ...round, isNoisy });
  }
  clean();
  for (const { close } of contenders) await close?.();
  const noisy = made.filter(({ isNoisy }) => isNoisy).length;
  return { name: item.name, rounds, repeated, noisy, ...summary(item, contenders, made) };
}

/** Each contender once, a different one first in each round. */
async function oneRound({ output, writes, prepare }, contenders, turn) {
  const runs = {};
  for (let i = 0; i < contenders.length; i++) {
    const { key, run } = contenders[(turn + i) % contenders.length];
    clean();
    if (writes) recycleMemory();
    if (prepare) runCommand('sh', ['-c', prepare]);
    runs[key] = await run();
    if (output) runs[key].bytes = statSync(join(folder, output)).size;
  }
  return runs;
}

function summary({ goals = {}, sizeGoal }, contenders, made) {
  const valuesOf = (key, field) => made.map((round) => round[key][field]);
  const median = (key, field) => spread(valuesOf(key, field)).median;
  const result = { seconds: {}, cpuSeconds: {}, ratios: {}, goals: [] };
  const sizes = {};
  for (const { key } of contenders) {
    result.seconds[key] = spread(valuesOf(key, 'seconds'));
    result.cpuSeconds[key] = { user: median(key, 'user'), system: median(key, 'system') };
    if (sizeGoal && key !== 'a C loop') sizes[key] = median(key, 'bytes');
    if (key === 'ours') continue;
    const ratio = pairedRatio(valuesOf('ours', 'seconds'), valuesOf(key, 'seconds'));
    result.ratios[key] = ratio;
    if (goals[key]) result.goals.push(goalOf('time', key, ratio.median, goals[key]));
    if (sizeGoal) result.goals.push(goalOf('size', key, sizes.ours / sizes[key], sizeGoal));
  }
  const peakBytes = Math.max(...valuesOf('ours', 'peakBytes'));
  result.goals.push(goalOf('peak', undefined, peakBytes, PEAK_BYTES));
  return { ...result, ...(sizeGoal && { sizes }), peakBytes };
}

/** Reads files into the page cache, so that no round that is not counted is needed for it. */
function warm(inputs) {
  spawnSync('sh', ['-c', `cat ${inputs} >/dev/null`], { cwd: folder });
}

function clean() {
  for (const name of ['out.raw', 'out.qcow2', 'out.image', 'out-base.qcow2', 'out.data', 'out'])
    rmSync(join(folder, name), { recursive: true, force: true });
  mkdirSync(join(folder, 'out'));
}

/**
 * Takes the memory for a file and gives it back. A host that took back what was free would otherwise be
 * paid for by whoever runs after a long run: up to two seconds of system time.
 */
function recycleMemory() {
  const file = join(folder, 'out.raw');
  spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', `count=${RECYCLED_MIB}`, 'status=none']);
  clean();
}
