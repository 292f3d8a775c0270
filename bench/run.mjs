// npm run bench [-- PART...] [--rounds N]: PART picks benches by a piece of their name; `kernels`,
// `images` and `browser` (the kernels in Chromium) pick what is run, else the first two. What was
// measured replaces what bench/results/ holds under its name.
import { parseArgs } from 'node:util';
import { missedList, noiseText, tables } from './report.mjs';
import { GROUPS, machine, store } from './results.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    time: { type: 'string', default: '500' },
    whole: { type: 'boolean', default: false },
  },
});

/** The value of an option as a whole number from 1 on. */
function count(name) {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new Error(`--${name} must be a whole number from 1 on, not '${values[name]}'`);
}

const log = (text) => console.error(text);
const picked = positionals.filter((word) => GROUPS.includes(word));
const words = positionals
  .filter((word) => !GROUPS.includes(word))
  .map((word) => word.toLowerCase());
const options = {
  /** Whether a row is to be measured. */
  wants: (name) => words.length === 0 || words.some((word) => name.toLowerCase().includes(word)),
  rounds: count('rounds'),
  milliseconds: count('time'),
  isWhole: values.whole,
  log,
};

const RUNNERS = {
  kernels: {
    title: 'kernels, in one process',
    run: async () => (await import('./kernels/run.mjs')).runKernelBenches(options),
  },
  browser: {
    title: 'kernels, in Chromium',
    run: async () => (await import('./browser/run.mjs')).runBrowserBenches(options),
  },
  images: {
    title: 'images, whole processes in turn',
    run: async () => (await import('./images/run.mjs')).runImageBenches(options),
  },
};

const started = performance.now();
const stamp = { date: new Date().toISOString(), machine: machine() };
const measured = {};
for (const [group, { title, run }] of Object.entries(RUNNERS)) {
  if (picked.length > 0 ? !picked.includes(group) : group === 'browser') continue;
  log(title);
  measured[group] = (await run()).map((row) => ({ ...row, ...stamp }));
}
if (Object.values(measured).every((rows) => rows.length === 0)) {
  throw new Error(`no bench has ${words.join(' or ')} in its name`);
}
store(measured);
console.log(`\n${tables(measured)}\n\n${noiseText(measured)}${missedList(measured)}`);
log(`stored in bench/results; ${Math.round((performance.now() - started) / 1000)} s`);
