// npm run bench [-- PART...] [--rounds N]: PART picks benches by a piece of their name; `kernels`,
// `images` and `browser` (the kernels in Chromium) pick what is run, else the first two. What was
// measured replaces what bench/results/ holds under its name.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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
if (!halves.includes('browser')) store(result);

function machine() {
  const [cpu] = cpus();
  const version = spawnSync('qemu-img', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const model = cpu?.model ?? 'unknown';
  return { cpu: model, cores: cpus().length, memory, node: process.version, qemuImg: version };
}

/** Stores what was measured under its name, and the image table in bench/README.md. */
function store(measured) {
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const path = new URL('latest.json', folder);
  const before = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  const results = { ...before, ...measured };
  for (const half of ['kernels', 'images']) {
    const names = measured[half].map(({ name }) => name);
    const kept = (before[half] ?? []).filter(({ name }) => !names.includes(name));
    results[half] = [...kept, ...measured[half]];
  }
  writeFileSync(path, `${JSON.stringify(results, null, 1)}\n`);
  writeFileSync(new URL('images.svg', folder), chart(results.images));
  const readme = new URL('./README.md', import.meta.url);
  const table = `$1\n${imageTable(results.images)}\n\n$2`;
  const marks = /(<!-- images: .*-->\n)[\s\S]*?(<!-- \/images -->)/;
  writeFileSync(readme, readFileSync(readme, 'utf8').replace(marks, table));
  log('stored in bench/results');
}
