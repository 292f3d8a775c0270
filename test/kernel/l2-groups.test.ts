// The decoders take entries in groups: what happens at each place inside and between them, and at the
// end, is compared with the TypeScript twin, which takes one at a time.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { L2_DATA_FILE, L2_VERSION_2 } from '../../src/kernel/abi.ts';
import { allBackends, loadScalar } from './backends.ts';
import { COMPRESSED, COPIED, type DecodeOptions, L2Decoder } from './l2-support.ts';

const CLUSTER = 0x10000n;
const ALL = 0xffffffffn;
/** Longer than two groups of eight and the four before them that start the search for a run. */
const LENGTH = 27;
const LIMIT_52 = 1n << 52n;

const twin = new L2Decoder(loadScalar());

type Entries = readonly (readonly bigint[])[];

/** How an entry at `i` of a run looks, one word or, if extended, two. */
const standardRuns: Record<string, (i: bigint) => bigint[]> = {
  data: (i) => [COPIED | ((i + 1n) * CLUSTER)],
  'data around 2^52': (i) => [LIMIT_52 + (i - 13n) * CLUSTER],
  'data, guest is host': (i) => [COPIED | (i * CLUSTER)],
  fragments: (i) => [(3n * i + 1n) * CLUSTER],
  holes: () => [0n],
  zeros: () => [1n],
  'allocated zeros': (i) => [((i + 1n) * CLUSTER) | 1n],
  'reserved zeros': () => [3n],
};
const extendedRuns: Record<string, (i: bigint) => bigint[]> = {
  data: (i) => [COPIED | ((i + 1n) * CLUSTER), ALL],
  'data, guest is host': (i) => [COPIED | (i * CLUSTER), ALL],
  'allocated, unused': (i) => [(i + 1n) * CLUSTER, 0n],
  'allocated zeros': (i) => [(i + 1n) * CLUSTER, ALL << 32n],
  holes: () => [0n, 0n],
  zeros: () => [0n, ALL << 32n],
  halves: (i) => [(i + 1n) * CLUSTER, 0xffffn],
  reserved: (i) => [((i + 1n) * CLUSTER) | 2n, ALL],
};
/** What takes the place of one entry of the run; of the entry itself, where flags are changed. */
const strangers: ((entry: bigint) => bigint)[] = [
  () => 0n,
  () => 1n,
  () => COPIED,
  () => COPIED | 1n,
  () => COMPRESSED | 0x50000n,
  () => 0x50200n,
  () => 0x7700000n,
  () => 1n << 53n,
  () => 0x00ffffffffff0000n,
  (entry) => entry ^ COPIED,
  (entry) => entry ^ COMPRESSED,
  (entry) => entry ^ 1n,
  (entry) => entry ^ 2n,
  (entry) => entry ^ (1n << 56n),
  (entry) => entry ^ (1n << 16n),
];
const flags = [0, L2_VERSION_2, L2_DATA_FILE];
const attributes = [0, 1, 2, 3];

describe.each(allBackends().filter(({ name }) => name !== 'js'))(
  'groups of $name',
  ({ kernel }) => {
    const l2 = new L2Decoder(kernel);

    function compare(entries: Entries, options: DecodeOptions): void {
      const decode = entries[0]?.length === 2 ? 'decodeExtended' : 'decode';
      const words = entries.flat();
      const runs = l2[decode](words, options);
      const wanted = twin[decode](words, options);
      // Comparing texts is faster than comparing arrays, and there are many.
      if (`${runs}` === `${wanted}`) return;
      const text = words.map((word) => word.toString(16));
      expect({ text, options, runs }).toEqual({ text, options, runs: wanted });
    }

    describe.each([
      ['standard', standardRuns],
      ['extended', extendedRuns],
    ])('%s entries', (_kind, shapes) => {
      test.each(Object.entries(shapes))('%s, and one stranger at every place', (_name, shape) => {
        const run = Array.from({ length: LENGTH }, (_, i) => shape(BigInt(i)));
        for (const [k, stranger] of strangers.entries()) {
          for (let at = 0; at < LENGTH; at++) {
            const entries = run.with(at, [stranger(run[at]![0]!), ...run[at]!.slice(1)]);
            compare(entries, { flags: flags[at % 3]!, attributes: k % 4 });
            compare(entries, { flags: flags[k % 3]!, attributes: at % 4, hostSize: 0x180000 });
            compare(entries, { hostSize: Number.POSITIVE_INFINITY });
          }
        }
      });

      test('two runs that meet at every place', () => {
        const all = Object.values(shapes);
        for (const [k, shape] of all.entries()) {
          for (const [j, other] of all.entries()) {
            for (let at = 0; at <= 19; at++) {
              const entries = Array.from({ length: at + 1 + ((at * 7 + j) % 20) }, (_, i) =>
                i < at ? shape(BigInt(i)) : other(BigInt(i)),
              );
              compare(entries, { attributes: attributes[(at + j + k) % 4]! });
            }
          }
        }
      });

      test.each(Object.entries(shapes))(
        '%s: every length, start and end of the file',
        (_name, shape) => {
          const run = Array.from({ length: 40 }, (_, i) => shape(BigInt(i)));
          for (let length = 1; length <= 40; length++) {
            for (const first of [0, 1, 2, 3]) {
              if (first > length) continue;
              const entries = run.slice(0, length);
              compare(entries, { first });
              compare(entries, { first, guestBase: first * 65536, flags: L2_DATA_FILE });
              compare(run, { first, hostSize: length * 65536 });
              compare(run, { first, hostSize: length * 65536 + 1 });
            }
          }
        },
      );

      test.each(Object.entries(shapes))('%s: every capacity', (_name, shape) => {
        // Every fifth entry is a hole, so that records end inside groups.
        const entries = Array.from({ length: 40 }, (_, i) =>
          i % 5 === 4 ? shape(0n).map(() => 0n) : shape(BigInt(i)),
        );
        const room = shape(0n).length === 2 ? 100 : 0;
        for (let capacity = 0; capacity <= 41; capacity++) compare(entries, { capacity });
        for (let extra = 0; extra < 32; extra++) compare(entries, { capacity: room + extra });
      });
    });

    test('runs of any kind and length, with strangers between them', () => {
      const parts = fc.array(
        fc.tuple(
          fc.constantFrom(...Object.values(standardRuns)),
          fc.integer({ min: 1, max: 20 }),
          fc.option(fc.constantFrom(...strangers)),
        ),
        { minLength: 1, maxLength: 8 },
      );
      const options = fc.record({
        flags: fc.constantFrom(...flags),
        attributes: fc.constantFrom(...attributes),
        hostSize: fc.constantFrom(
          0,
          0x100001,
          2 ** 50,
          2 ** 52,
          2 ** 52 + 1,
          Number.POSITIVE_INFINITY,
        ),
        capacity: fc.oneof(fc.constant(4000), fc.nat(40)),
      });
      fc.assert(
        fc.property(parts, options, (chosen, rest) => {
          const entries: bigint[][] = [];
          for (const [shape, length, stranger] of chosen) {
            for (let i = 0; i < length; i++) entries.push(shape(BigInt(entries.length)));
            if (stranger) entries.push([stranger(entries.at(-1)![0]!)]);
          }
          compare(entries, rest);
        }),
        { numRuns: 200 },
      );
    });
  },
);
