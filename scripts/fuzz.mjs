// Fuzzes the library: npm run fuzz -- [PART] [--runs N] [--seed S] [--first-run R], where PART is
//   images    damaged images through the whole library (if no part is told)
//   codecs    damaged streams through both decoders, compared with zlib and libzstd
//   encoders  random clusters through both encoders and back
//   nightly   all of them, with more runs
// Prints the seed, run and cause of the first input that breaks a rule, and saves it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createViteServer } from 'vitest/node';

/** Runs of each part, alone and at night. */
const RUNS = { images: 100_000, codecs: 1_000_000, encoders: 100_000 };
const NIGHTLY_RUNS = { images: 500_000, codecs: 10_000_000, encoders: 1_000_000 };

/** The value of an option as a whole number. */
function wholeNumber(text, name) {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${name} must be a whole number, not '${text}'`);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    'first-run': { type: 'string', default: '0' },
  },
});
const [part = 'images', ...more] = positionals;
if (more.length > 0 || !(part in RUNS || part === 'nightly')) {
  throw new Error(
    `what to fuzz is images, codecs, encoders or nightly, not '${positionals.join(' ')}'`,
  );
}
const seed = wholeNumber(values.seed, 'seed');
const firstRun = wholeNumber(values['first-run'], 'first-run');
const failures = join(tmpdir(), 'qcow2-fuzz');

// The fuzzers are TypeScript over the sources, as the tests are.
const vite = await createViteServer({
  root: fileURLToPath(new URL('..', import.meta.url)),
  configFile: false,
  logLevel: 'error',
  appType: 'custom',
  optimizeDeps: { noDiscovery: true },
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
});

/** What each part does; the text returned is that of a failure. */
const PARTS = {
  async images(runs) {
    const { fuzz, report } = await vite.ssrLoadModule('/test/fuzz/fuzzer.ts');
    const { subjectOf } = await vite.ssrLoadModule('/test/fuzz/mutate.ts');
    const { builtSeeds, qemuSeeds } = await vite.ssrLoadModule('/test/fuzz/seeds.ts');
    const folder = mkdtempSync(join(tmpdir(), 'qcow2-fuzz-seeds-'));
    try {
      const subjects = [...builtSeeds(), ...(await qemuSeeds(folder))].map(subjectOf);
      const { failure, counts } = await timed('images', runs, (options) => fuzz(subjects, options));
      if (failure) return report(failure, failures);
      tell('images', runs, Object.fromEntries(counts));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  async codecs(runs) {
    const { CodecFuzzer } = await vite.ssrLoadModule('/test/fuzz/codec-fuzzer.ts');
    return await eachCodec('streams', runs, (codec) => new CodecFuzzer(codec));
  },
  async encoders(runs) {
    const { EncoderFuzzer } = await vite.ssrLoadModule('/test/fuzz/encoder-fuzzer.ts');
    return await eachCodec('clusters', runs, (codec) => EncoderFuzzer.load(codec));
  },
};

async function eachCodec(what, runs, load) {
  const { CODECS, reportCodec } = await vite.ssrLoadModule('/test/fuzz/codec-report.ts');
  for (const codec of CODECS) {
    const fuzzer = await load(codec);
    const name = `${codec} ${what}`;
    const { failure, counts } = await timed(name, runs, (options) => fuzzer.fuzz(options));
    if (failure) return reportCodec(failure, failures);
    tell(name, runs, counts);
  }
}

let seconds = 0;

async function timed(name, runs, fuzz) {
  const started = performance.now();
  const onProgress = (run) => process.stderr.write(`\r${name}, seed ${seed}, run ${run} `);
  const result = await fuzz({ seed, firstRun, runs, onProgress });
  process.stderr.write('\r');
  seconds = Math.round((performance.now() - started) / 1000);
  return result;
}

function tell(name, runs, counts) {
  const ends = Object.entries(counts).map(([end, count]) => `${end} ${count}`);
  const range = `${runs} runs from ${firstRun}`;
  console.log(`${name}, seed ${seed}: ${range} in ${seconds} s broke no rule (${ends.join(', ')})`);
}

try {
  const parts = part === 'nightly' ? Object.keys(PARTS) : [part];
  const defaults = part === 'nightly' ? NIGHTLY_RUNS : RUNS;
  for (const name of parts) {
    const runs = values.runs === undefined ? defaults[name] : wholeNumber(values.runs, 'runs');
    const failure = await PARTS[name](runs);
    if (failure === undefined) continue;
    console.log(failure);
    process.exitCode = 1;
  }
} finally {
  await vite.close();
}
