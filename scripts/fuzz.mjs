// Fuzzes the library with damaged images: node scripts/fuzz.mjs [--runs N] [--seed S] [--first-run R]
// Prints the seed, run and changes of the first image that breaks a rule, and saves it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createViteServer } from 'vitest/node';

/** The value of an option as a whole number. */
function wholeNumber(text, name) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${name} must be a whole number, not '${text}'`);
}

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    'first-run': { type: 'string', default: '0' },
  },
});
const runs = wholeNumber(values.runs, 'runs');
const seed = wholeNumber(values.seed, 'seed');
const firstRun = wholeNumber(values['first-run'], 'first-run');

// The fuzzer is TypeScript over the sources, as the tests are.
const vite = await createViteServer({
  root: fileURLToPath(new URL('..', import.meta.url)),
  configFile: false,
  logLevel: 'error',
  appType: 'custom',
  optimizeDeps: { noDiscovery: true },
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
});
const folder = mkdtempSync(join(tmpdir(), 'qcow2-fuzz-seeds-'));
try {
  const { fuzz, report } = await vite.ssrLoadModule('/test/fuzz/fuzzer.ts');
  const { subjectOf } = await vite.ssrLoadModule('/test/fuzz/mutate.ts');
  const { builtSeeds, qemuSeeds } = await vite.ssrLoadModule('/test/fuzz/seeds.ts');
  const subjects = [...builtSeeds(), ...(await qemuSeeds(folder))].map(subjectOf);
  const started = performance.now();
  const { failure, counts } = await fuzz(subjects, {
    seed,
    firstRun,
    runs,
    onProgress: (run) => process.stderr.write(`\rseed ${seed}, run ${run} `),
  });
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stderr.write('\r');
  if (failure) {
    console.log(report(failure, join(tmpdir(), 'qcow2-fuzz')));
    process.exitCode = 1;
  } else {
    const ends = [...counts].map(([end, count]) => `${end} ${count}`).join(', ');
    console.log(`seed ${seed}: ${runs} runs in ${seconds} s broke no rule (${ends})`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
  await vite.close();
}
