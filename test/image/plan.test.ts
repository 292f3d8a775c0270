import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hasPlace, isUnallocated, Plan } from '../../src/image/plan.ts';
import * as abi from '../../src/kernel/abi.ts';

interface Run {
  kind: number;
  layer: number;
  guest: number;
  length: number;
  host: number;
}

const KINDS = [
  abi.RUN_UNALLOCATED,
  abi.RUN_ZERO_PLAIN,
  abi.RUN_ZERO_ALLOCATED,
  abi.RUN_DATA,
  abi.RUN_COMPRESSED,
  abi.RUN_UNALLOCATED_SUBCLUSTER,
];

/** Runs that follow each other on the disk, often in the file too, some of them beyond 2^32. */
const anyRuns: fc.Arbitrary<Run[]> = fc
  .tuple(
    fc.constantFrom(0, 2 ** 32 - 4, 2 ** 52),
    fc.array(
      fc.record({
        kind: fc.constantFrom(...KINDS),
        layer: fc.nat(1),
        length: fc.integer({ min: 0, max: 5 }),
        follows: fc.boolean(),
      }),
      { maxLength: 200 },
    ),
  )
  .map(([base, runs]) => {
    let guest = base;
    let host = base / 2;
    return runs.map(({ kind, layer, length, follows }) => {
      if (!follows) host += 7;
      const run = { kind, layer, guest, length, host };
      guest += length;
      host += length;
      return run;
    });
  });

/** What every guest byte is, one by one. */
function bytesOf(runs: readonly Run[]): unknown[] {
  return runs.flatMap(({ kind, layer, guest, length, host }) =>
    Array.from({ length }, (_, i) => [
      guest + i,
      kind,
      layer,
      hasPlace(kind) ? host + i : kind === abi.RUN_COMPRESSED ? host : 0,
    ]),
  );
}

function runsOf(plan: Plan): Run[] {
  return Array.from({ length: plan.count }, (_, i) => ({
    kind: plan.kind[i]!,
    layer: plan.layer[i]!,
    guest: plan.guest[i]!,
    length: plan.length[i]!,
    host: plan.host[i]!,
  }));
}

describe('Plan', () => {
  it('merges what continues, and nothing else', () => {
    fc.assert(
      fc.property(anyRuns, (runs) => {
        const plan = new Plan();
        for (const { kind, layer, guest, length, host } of runs)
          plan.push(kind, layer, guest, length, host);
        const merged = runsOf(plan);
        expect(bytesOf(merged)).toEqual(bytesOf(runs));
        merged.slice(1).forEach((run, i) => {
          const before = merged[i]!;
          const same = before.kind === run.kind && before.layer === run.layer;
          const placed = hasPlace(run.kind) && before.host + before.length === run.host;
          const placeless = run.kind === abi.RUN_UNALLOCATED || run.kind === abi.RUN_ZERO_PLAIN;
          expect(same && (placed || placeless)).toBe(false);
        });
        const copy = new Plan();
        copy.push(abi.RUN_DATA, 3, 0, 1, 1);
        copy.copyFrom(plan);
        expect(runsOf(copy)).toEqual(merged);
      }),
    );
  });

  it('copies a run from the middle on', () => {
    const plan = new Plan();
    plan.push(abi.RUN_DATA, 0, 2 ** 40, 100, 2 ** 41);
    plan.push(abi.RUN_COMPRESSED, 0, 2 ** 40 + 100, 50, 777, 60);
    const tail = new Plan();
    tail.pushFrom(plan, 0, 2 ** 40 + 30);
    tail.pushFrom(plan, 1, 2 ** 40 + 110);
    expect(runsOf(tail)).toEqual([
      { kind: abi.RUN_DATA, layer: 0, guest: 2 ** 40 + 30, length: 70, host: 2 ** 41 + 30 },
      { kind: abi.RUN_COMPRESSED, layer: 0, guest: 2 ** 40 + 110, length: 40, host: 777 },
    ]);
    expect(tail.aux[1]).toBe(60);
  });

  it('asks the layer below for both unallocated kinds only', () => {
    const below = KINDS.filter(isUnallocated);
    expect(below).toEqual([abi.RUN_UNALLOCATED, abi.RUN_UNALLOCATED_SUBCLUSTER]);
  });
});
