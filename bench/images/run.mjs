// Whole processes: ours and qemu-img in turn, in the same round, on the same images.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folder, prepareImages } from '../data.mjs';
import { pairedRatio, spread } from '../statistics.mjs';
import { BATCH, CASES } from './cases.mjs';
import { runProcess } from './process.mjs';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
/** Memory written to before each run: a host that took free pages back makes the first writer pay. */
const TOUCHED_GIB = 3;

/** @param {{ rounds: number, only: string[], log: (text: string) => void }} options */
export async function runImageBenches({ rounds, only, log }) {
  prepareImages(log);
  const wanted = (name) => only.length === 0 || only.some((part) => name.includes(part));
  const results = [];
  for (const item of CASES.filter(({ name }) => wanted(name)))
    results.push(await measure(item.name, contenders(item), item, { rounds, log }));
  if (wanted(BATCH.name))
    results.push(await measure(BATCH.name, batchContenders(), BATCH, { rounds, log }));
  if (wanted('start-up'))
    results.push(
      await measure('start-up: info', startUpContenders(), {}, { rounds: rounds * 2, log }),
    );
  return results;
}

function contenders({ ours, typed, best }) {
  const list = [
    { key: 'ours', command: process.execPath, args: [CLI, ...ours] },
    { key: 'qemu-img', command: 'qemu-img', args: typed },
  ];
  if (best) list.push({ key: 'qemu-img -m 16 -W', command: 'qemu-img', args: best });
  return list;
}

function batchContenders() {
  const inputs = readdirSync(join(folder, 'batch')).map((name) => `batch/${name}`);
  const ours = BATCH.ours.flatMap((word) => (word === 'batch/*.qcow2' ? inputs : [word]));
  return [
    { key: 'ours', command: process.execPath, args: [CLI, ...ours] },
    { key: 'qemu-img', command: 'sh', args: ['-c', BATCH.loop] },
    { key: 'qemu-img with xargs -P2', command: 'sh', args: ['-c', BATCH.xargs] },
  ];
}

/** What our process costs before it does anything: against a Node that does nothing. */
function startUpContenders() {
  return [
    { key: 'ours', command: process.execPath, args: [CLI, 'info', 'plain.qcow2'] },
    { key: 'node -e 0', command: process.execPath, args: ['-e', '0'] },
  ];
}

async function measure(name, list, { goal, goalBest }, { rounds, log }) {
  const runs = new Map(list.map(({ key }) => [key, { seconds: [], peakBytes: [] }]));
  // The first round fills the page cache and is not counted.
  for (let round = 0; round <= rounds; round++) {
    touchMemory();
    for (const { key, command, args } of list) {
      clean();
      const { seconds, peakBytes } = await runProcess(command, args, folder);
      if (round === 0) continue;
      runs.get(key).seconds.push(seconds);
      runs.get(key).peakBytes.push(peakBytes);
    }
  }
  clean();
  const ours = runs.get('ours');
  const result = { name, seconds: {}, ratios: {}, peakBytes: Math.max(...ours.peakBytes) };
  for (const [key, { seconds }] of runs) {
    result.seconds[key] = spread(seconds);
    if (key !== 'ours') result.ratios[key] = pairedRatio(ours.seconds, seconds);
  }
  if (goal !== undefined) result.goal = goal;
  if (goalBest !== undefined) result.goalBest = goalBest;
  log(
    `  ${name}: ${Object.entries(result.ratios)
      .map(([key, { median }]) => `${median.toFixed(2)} of ${key}`)
      .join(', ')}`,
  );
  return result;
}

function clean() {
  for (const name of ['out.raw', 'out.qcow2', 'out.data', 'out'])
    rmSync(join(folder, name), { recursive: true, force: true });
  mkdirSync(join(folder, 'out'));
}

/** In a process that ends at once: its pages are then free, and the host has them ready. */
function touchMemory() {
  const code = `for (let i = 0; i < ${TOUCHED_GIB}; i++) globalThis['b' + i] = Buffer.alloc(2 ** 30, 1)`;
  spawnSync(process.execPath, ['-e', code]);
}
