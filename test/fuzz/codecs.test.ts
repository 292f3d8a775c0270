import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { CodecFuzzer } from './codec-fuzzer.ts';
import { CODECS, reportCodec } from './codec-report.ts';
import { EncoderFuzzer } from './encoder-fuzzer.ts';

const SEED = 1;
const RUNS = 10_000;
const FOLDER = path.join(tmpdir(), 'qcow2-fuzz');

describe.each(CODECS)('fuzzing %s', (codec) => {
  const fuzzer = new CodecFuzzer(codec);

  it(`${RUNS} damaged streams are decoded, or refused, as by the library of qemu-img`, () => {
    const { failure, counts } = fuzzer.fuzz({ seed: SEED, firstRun: 0, runs: RUNS });
    if (failure) throw new Error(reportCodec(failure, FOLDER));
    expect(counts.decoded).toBeGreaterThan(RUNS / 20);
    expect(counts.refused).toBeGreaterThan(RUNS / 10);
    expect(counts.stricter).toBeLessThan(RUNS / 50);
  });

  it(`${RUNS} inputs come back from the encoder`, async () => {
    const encoders = await EncoderFuzzer.load(codec);
    const { failure, counts } = encoders.fuzz({ seed: SEED, firstRun: 0, runs: RUNS });
    if (failure) throw new Error(reportCodec(failure, FOLDER));
    expect(counts.packed).toBeGreaterThan(RUNS / 3);
    expect(counts.unfit).toBeGreaterThan(RUNS / 20);
  });

  it('makes the same stream of the same seed and run, whatever was run before', () => {
    const runs = Array.from({ length: 500 }, (_, run) => run);
    const before = runs.map((run) => fuzzer.mutantOf(5, run));
    fuzzer.fuzz({ seed: 5, firstRun: 0, runs: runs.length });
    for (const run of runs) {
      const again = fuzzer.mutantOf(5, run);
      expect(again.length).toBe(before[run]?.length);
      expect(Buffer.compare(again.stream, before[run]!.stream), `run ${run}`).toBe(0);
    }
    expect(before[78]).not.toEqual(before[77]);
  });
});
