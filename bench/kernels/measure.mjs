// Measures contenders in turn, a little of each in every round, so that all see the same machine.
import { Bench } from 'tinybench';
import { pairedRatio, spread } from '../statistics.mjs';
import { goalsOf } from './goals.mjs';

const ROUNDS = 5;

/**
 * @param {object} suite
 * @param {Record<string, () => number>} suite.calls the first is the one the others are compared with
 * @param {number} suite.units of work in one call
 * @param {boolean} suite.isSized whether calls return lengths; else all must return the same
 */
export async function measure(suite, milliseconds, log) {
  const { name, unit, units, calls, isSized } = suite;
  const results = check(name, calls, isSized);
  const rates = Object.fromEntries(Object.keys(calls).map((key) => [key, []]));
  const bench = new Bench({
    time: milliseconds / ROUNDS,
    iterations: 1,
    warmupTime: milliseconds / ROUNDS,
    warmupIterations: 1,
    throws: true,
  });
  for (const [key, call] of Object.entries(calls)) bench.add(key, call);
  for (let round = 0; round < ROUNDS; round++) {
    bench.warmup = round === 0;
    await bench.run();
    for (const { name: key, result } of bench.tasks) {
      rates[key].push((units / result.latency.p50) * 1000);
    }
    bench.reset();
  }
  const [[first, ours], ...others] = Object.entries(rates);
  const perSecond = Object.fromEntries(
    Object.entries(rates).map(([key, values]) => [key, spread(values)]),
  );
  const ratios = Object.fromEntries(
    others.map(([key, values]) => [key, pairedRatio(ours, values)]),
  );
  const words = Object.entries(ratios).map(([key, { median }]) => `${median.toFixed(2)}x ${key}`);
  log(`  ${name}, ${first}: ${words.join(', ')}`);
  const row = { perSecond, ratios, ...(isSized && { sizes: shares(results, units) }) };
  return { name, unit, rounds: ROUNDS, ...row, goals: goalsOf(name, row) };
}

/** One call of each: a contender that does other work is an error. */
function check(name, calls, isSized) {
  const results = Object.fromEntries(Object.entries(calls).map(([key, call]) => [key, call()]));
  const [[first, expected]] = Object.entries(results);
  for (const [key, result] of Object.entries(results)) {
    if (isSized ? result > 0 : result === expected) continue;
    throw new Error(`${name}: ${key} returns ${result}, ${first} ${expected}`);
  }
  return results;
}

/** Lengths as shares of the input. */
function shares(lengths, bytes) {
  return Object.fromEntries(Object.entries(lengths).map(([key, length]) => [key, length / bytes]));
}
