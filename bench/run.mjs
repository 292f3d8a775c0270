// npm run bench [-- PART...] [--rounds N]: PART picks benches by a piece of their name; `kernels`,
// `images` and `browser` (the kernels in Chromium) pick what is run, else the first two. Such a full
// run is stored in bench/results/.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { chart, imageTable, kernelTable } from './report.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' }, time: { type: 'string', default: '500' } },
});
const halves = positionals.filter((word) => ['kernels', 'images', 'browser'].includes(word));
const only = positionals.filter((word) => !halves.includes(word));
const wants = (half) => halves.length === 0 || halves.includes(half);
const log = (text) => console.error(text);

const result = { machine: machine(), date: new Date().toISOString(), kernels: [], images: [] };
if (wants('kernels')) {
  log('kernels, in one process');
  const milliseconds = Number(values.time);
  const { runKernelBenches } = await import('./kernels/run.mjs');
  result.kernels = await runKernelBenches({ only, milliseconds, log });
}
if (halves.includes('browser')) {
  log('kernels, in Chromium');
  const milliseconds = Number(values.time);
  const { runBrowserBenches } = await import('./browser/run.mjs');
  const measured = await runBrowserBenches({ only, milliseconds, log });
  console.log(`\nin ${measured.browser}\n\n${kernelTable(measured.kernels)}`);
}
if (wants('images')) {
  log('images, whole processes in turn');
  const { runImageBenches } = await import('./images/run.mjs');
  result.images = await runImageBenches({ rounds: Number(values.rounds), only, log });
}
if (result.images.length > 0) console.log(`\n${imageTable(result.images)}`);
if (result.kernels.length > 0) console.log(`\n${kernelTable(result.kernels)}`);
if (positionals.length === 0) store(result);

function machine() {
  const [cpu] = cpus();
  const version = spawnSync('qemu-img', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const model = cpu?.model ?? 'unknown';
  return { cpu: model, cores: cpus().length, memory, node: process.version, qemuImg: version };
}

function store(results) {
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL('latest.json', folder), `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(new URL('images.svg', folder), chart(results.images));
  const text = readFileSync(new URL('latest.json', folder), 'utf8');
  log(`stored in bench/results (${text.length} bytes)`);
}
