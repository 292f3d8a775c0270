import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PLAN_LIMIT, Plan } from '../../src/image/plan.ts';
import { RawLayer } from '../../src/image/raw-layer.ts';
import { RUN_DATA } from '../../src/kernel/abi.ts';
import type { Extent } from '../../src/storage/storage.ts';

/** A file of data and holes in turn; tells `most` extents at once. */
function fileOf(lengths: readonly number[], most: number, late: boolean) {
  const all: Extent[] = [];
  let size = 0;
  for (const [i, length] of lengths.entries()) {
    all.push({ offset: size, length, data: i % 2 === 0 });
    size += length;
  }
  let asked = 0;
  const extents = (offset: number, length: number): Extent[] => {
    asked++;
    const end = offset + length;
    return all
      .filter((extent) => extent.offset < end && extent.offset + extent.length > offset)
      .map(({ offset: at, length: n, data }) => {
        const from = Math.max(at, offset);
        return { offset: from, length: Math.min(at + n, end) - from, data };
      })
      .slice(0, most);
  };
  const storage = {
    size,
    read: () => 0,
    extents: (offset: number, length: number) =>
      late ? Promise.resolve(extents(offset, length)) : extents(offset, length),
    close() {},
  };
  return { storage, all, asked: () => asked };
}

/** Which bytes of `[start, end)` are data, from as many calls as it takes. */
async function dataIn(layer: RawLayer, start: number, end: number): Promise<boolean[]> {
  const data: boolean[] = [];
  const plan = new Plan();
  for (let at = start; at < end; ) {
    plan.clear();
    const reached = await layer.mapRange(at, end, 0, plan);
    expect(reached).toBeGreaterThan(at);
    for (let i = 0; i < plan.count; i++) {
      expect(plan.guest[i]).toBe(start + data.length);
      expect(plan.host[i]).toBe(plan.guest[i]);
      for (let k = 0; k < plan.length[i]!; k++) data.push(plan.kind[i] === RUN_DATA);
    }
    expect(start + data.length).toBe(reached);
    at = reached;
  }
  return data;
}

describe('RawLayer', () => {
  it('maps data and holes, whatever was asked before and however few are told at once', async () => {
    const anyFile = fc.record({
      lengths: fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 12 }),
      most: fc.integer({ min: 1, max: 5 }),
      late: fc.boolean(),
      ranges: fc.array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 6 }),
    });
    await fc.assert(
      fc.asyncProperty(anyFile, async ({ lengths, most, late, ranges }) => {
        const { storage, all } = fileOf(lengths, most, late);
        const layer = new RawLayer(storage);
        expect(layer.virtualSize).toBe(Math.ceil(storage.size / 512) * 512);
        for (const range of ranges) {
          const [start, end] = range.map((n) => n % (layer.virtualSize + 1)).sort((a, b) => a - b);
          const wanted = Array.from({ length: end! - start! }, (_, i) =>
            all.some((e) => e.data && start! + i >= e.offset && start! + i < e.offset + e.length),
          );
          expect(await dataIn(layer, start!, end!)).toEqual(wanted);
        }
      }),
    );
  });

  it('takes what a storage leaves out for data', async () => {
    const found = [{ offset: 100, length: 50, data: false }];
    const storage = { size: 512, read: () => 0, extents: () => found, close() {} };
    const data = await dataIn(new RawLayer(storage), 0, 512);
    expect(data.filter(Boolean).length).toBe(512 - 50);
    const silent = { size: 512, read: () => 0, extents: () => [], close() {} };
    expect(await dataIn(new RawLayer(silent), 0, 512)).toEqual(new Array(512).fill(true));
  });

  it('ends a plan that is full, and goes on from there', async () => {
    const pieces = 3 * PLAN_LIMIT;
    const storage = {
      size: pieces * 512,
      read: () => 0,
      extents: (offset: number) =>
        Array.from({ length: pieces - offset / 512 }, (_, i) => ({
          offset: offset + i * 512,
          length: 512,
          data: (offset / 512 + i) % 2 === 0,
        })),
      close() {},
    };
    const plan = new Plan();
    let calls = 0;
    for (let at = 0; at < storage.size; calls++) {
      plan.clear();
      at = await new RawLayer(storage).mapRange(at, storage.size, 0, plan);
      expect(plan.count).toBeLessThanOrEqual(PLAN_LIMIT + 2);
    }
    expect(calls).toBe(3);
  });
});
