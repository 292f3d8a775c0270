import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  COUNT_STATE_BYTES,
  PIECE_ENTRY_BYTES,
  PIECE_SHIFT,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_BYTES,
  RUN_COMPRESSED,
  RUN_DATA,
  RUN_INVALID,
  RUN_KIND_BITS,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../../src/kernel/abi.ts';
import { allBackends } from './backends.ts';

const CLUSTER_BITS = 16;
const CLUSTER = 2 ** CLUSTER_BITS;
const PIECES = 4;
const PIECE_BYTES = 2 ** PIECE_SHIFT / 8;
const CAPACITY = 16;

interface Run {
  kind: number;
  attributes: number;
  units: number;
  host: number;
}

/** What is known of a piece: whether it has references and stored counters in memory, and their values. */
interface Piece {
  hasReferences: boolean;
  hasStored: boolean;
  references: number;
  stored: number;
}

interface Case {
  runs: Run[];
  pieces: Piece[];
  order: number;
  unitBits: number;
  clusters: number;
  times: number;
  verify: boolean;
}

interface Outcome {
  counted: number;
  entries: number;
  breaks: number;
  highest: number;
  next: number;
  references: bigint[][];
}

const maximum = (order: number): bigint => (1n << (1n << BigInt(order))) - 1n;
const perPiece = (order: number): number => 2 ** (PIECE_SHIFT - order);

/** What `count_runs` is to do, over counters that are not packed. */
function model({ runs, pieces, order, unitBits, clusters, times, verify }: Case): Outcome {
  const counters = perPiece(order);
  const references = pieces.map((piece) =>
    Array<bigint>(counters).fill(BigInt(piece.references) & maximum(order)),
  );
  const outcome = { counted: 0, entries: 0, breaks: 0, highest: -1, next: 0, references };
  if (BigInt(times) > maximum(order)) return outcome;
  let unit = 0;
  for (const { kind, attributes, units, host } of runs) {
    const first = Math.ceil(unit / 2 ** unitBits);
    const n = Math.ceil((unit + units) / 2 ** unitBits) - first;
    const start = host + (first * 2 ** unitBits - unit) * (CLUSTER / 2 ** unitBits);
    unit += units;
    if (kind === RUN_COMPRESSED || kind === RUN_INVALID) return outcome;
    if ((attributes & RUN_ATTR_RESERVED) !== 0) return outcome;
    if (kind !== RUN_UNALLOCATED && kind !== RUN_ZERO_PLAIN && n > 0) {
      const cluster = start / CLUSTER;
      const index = Math.floor(cluster / counters);
      const piece = pieces[index];
      if (cluster + n > clusters || Math.floor((cluster + n - 1) / counters) !== index)
        return outcome;
      if (piece === undefined || !piece.hasReferences) return outcome;
      const isOne = (BigInt(piece.stored) & maximum(order)) === 1n;
      const agrees = piece.hasStored && isOne === ((attributes & RUN_ATTR_COPIED) !== 0);
      if (verify && !agrees) return outcome;
      const at = cluster - index * counters;
      const counts = references[index]!;
      const fits = counts.slice(at, at + n).every((each) => each + BigInt(times) <= maximum(order));
      if (!fits) return outcome;
      for (let k = at; k < at + n; k++) counts[k]! += BigInt(times);
      if (outcome.next !== 0 && outcome.next !== start) outcome.breaks++;
      outcome.next = start + n * CLUSTER;
      outcome.entries += n;
      outcome.highest = Math.max(outcome.highest, cluster + n - 1);
    }
    outcome.counted++;
  }
  return outcome;
}

const cases: fc.Arbitrary<Case> = fc
  .record({ order: fc.integer({ min: 0, max: 6 }), unitBits: fc.constantFrom(0, 5) })
  .chain(({ order, unitBits }) => {
    const counters = perPiece(order);
    const perEntry = 2 ** unitBits;
    // Clusters in order, at the edges of pieces and behind the file; mostly what the kernel counts.
    const cluster = fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) },
      fc.integer({ min: 1, max: counters * (PIECES + 1) }),
      fc.constantFrom(counters - 1, counters, 2 * counters - 2),
    );
    const run = fc.record({
      kind: fc.constantFrom(
        ...Array<number>(8).fill(RUN_DATA),
        RUN_ZERO_ALLOCATED,
        RUN_UNALLOCATED,
        RUN_ZERO_PLAIN,
        RUN_COMPRESSED,
        RUN_INVALID,
        ...(unitBits > 0 ? [RUN_UNALLOCATED_SUBCLUSTER] : []),
      ),
      attributes: fc.constantFrom(...Array<number>(6).fill(RUN_ATTR_COPIED), 0, RUN_ATTR_RESERVED),
      units: fc.oneof(
        fc.constant(perEntry),
        fc.integer({ min: 1, max: 3 * perEntry }),
        fc.integer({ min: 1, max: 2 * counters }),
      ),
      cluster,
    });
    const runs = fc.array(run, { minLength: 1, maxLength: CAPACITY }).map((list) => {
      let unit = 0;
      return list.map(({ cluster: place, ...rest }) => {
        // The unit's own place in its cluster.
        const host = place * CLUSTER + (unit % perEntry) * (CLUSTER / perEntry);
        unit += rest.units;
        return { ...rest, host };
      });
    });
    const piece = fc.record({
      hasReferences: fc.constantFrom(true, true, true, false),
      hasStored: fc.constantFrom(true, true, true, false),
      references: fc.constantFrom(0, 0, 1, 255, 0xffffffff),
      stored: fc.constantFrom(1, 1, 1, 0, 2, 257),
    });
    return fc.record({
      runs,
      pieces: fc.array(piece, { minLength: PIECES, maxLength: PIECES }),
      order: fc.constant(order),
      unitBits: fc.constant(unitBits),
      clusters: fc.constantFrom(counters * PIECES, counters * 5, counters + 3),
      times: fc.constantFrom(1, 1, 1, 2, 300, 70000),
      verify: fc.boolean(),
    });
  });

describe.each(allBackends())('references of runs, $name', ({ kernel }) => {
  const { exports, arena } = kernel;
  const records = arena.allocate((CAPACITY + 1) * RUN_BYTES);
  const directory = arena.allocate(PIECES * PIECE_ENTRY_BYTES);
  const state = arena.allocate(COUNT_STATE_BYTES);
  const blocks = Array.from({ length: PIECES * 2 }, () => arena.allocate(PIECE_BYTES));
  const values = arena.allocate(2 ** PIECE_SHIFT * 8);

  function put({ runs, pieces, order }: Case): void {
    const view = new DataView(arena.u8.buffer);
    let unit = 0;
    for (const [i, run] of runs.entries()) {
      const at = records.ptr + i * RUN_BYTES;
      view.setUint32(at, run.kind | (run.attributes << RUN_KIND_BITS), true);
      view.setUint32(at + 4, unit, true);
      view.setFloat64(at + 8, run.host, true);
      unit += run.units;
    }
    view.setUint32(records.ptr + runs.length * RUN_BYTES + 4, unit, true);
    for (const [i, piece] of pieces.entries()) {
      const [references, stored] = [blocks[i * 2]!.ptr, blocks[i * 2 + 1]!.ptr];
      const fill = (ptr: number, value: number): void => {
        const fitting = Number(BigInt(value) & maximum(order));
        expect(exports.refcount_fill(ptr, order, 0, perPiece(order), fitting)).toBe(0);
      };
      fill(references, piece.references);
      fill(stored, piece.stored);
      const at = directory.ptr + i * PIECE_ENTRY_BYTES;
      view.setUint32(at, piece.hasReferences ? references : 0, true);
      view.setUint32(at + 4, piece.hasStored ? stored : 0, true);
    }
    arena.f64.set([0, 0, 0, -1], state.ptr / 8);
  }

  function run(input: Case): Outcome {
    const { order, unitBits, clusters, times, verify } = input;
    put(input);
    const counted = exports.count_runs(
      records.ptr,
      input.runs.length,
      CLUSTER_BITS,
      unitBits,
      order,
      directory.ptr,
      PIECES,
      clusters,
      times,
      verify ? 1 : 0,
      state.ptr,
    );
    const [next, entries, breaks, highest] = arena.f64.subarray(state.ptr / 8);
    const references = input.pieces.map((_, i) => {
      exports.refcount_unpack(blocks[i * 2]!.ptr, order, 0, perPiece(order), values.ptr);
      return [...new BigUint64Array(arena.u8.buffer, values.ptr, perPiece(order))];
    });
    return {
      counted,
      entries: entries!,
      breaks: breaks!,
      highest: highest!,
      next: next!,
      references,
    };
  }

  test('counts up to the first run that needs a closer look', () => {
    fc.assert(
      fc.property(cases, (input) => {
        expect(run(input)).toEqual(model(input));
      }),
      { numRuns: 150 },
    );
  });

  test('goes on from call to call', () => {
    const piece = { hasReferences: true, hasStored: true, references: 0, stored: 1 };
    const data = { kind: RUN_DATA, attributes: RUN_ATTR_COPIED, units: 1 };
    const input: Case = {
      runs: [5, 6, 9].map((cluster) => ({ ...data, host: cluster * CLUSTER })),
      pieces: Array<Piece>(PIECES).fill(piece),
      order: 4,
      unitBits: 0,
      clusters: 1000,
      times: 1,
      verify: true,
    };
    put(input);
    for (const i of [0, 1, 2]) {
      const at = records.ptr + i * RUN_BYTES;
      const state4 = [directory.ptr, PIECES, 1000, 1, 1, state.ptr] as const;
      expect(exports.count_runs(at, 1, CLUSTER_BITS, 0, 4, ...state4)).toBe(1);
    }
    expect([...arena.f64.subarray(state.ptr / 8, state.ptr / 8 + 4)]).toEqual([
      10 * CLUSTER,
      3,
      1,
      9,
    ]);
  });
});
