import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { align8, nameOf } from '../../src/format/fields.ts';
import { geometryOf } from '../../src/format/geometry.ts';
import {
  encodeSnapshotTable,
  ICOUNT_OFF,
  measureSnapshotTable,
  parseSnapshotTable,
  type Snapshot,
  validateSnapshotL1,
  vmStateSize,
} from '../../src/format/snapshot-table.ts';

const geometry = geometryOf({ clusterBits: 16, refcountOrder: 4, incompatibleFeatures: 0n });
const snapshot: Snapshot = {
  l1TableOffset: 0x70000,
  l1Size: 1,
  dateSec: 1,
  dateNsec: 2,
  vmClockNsec: 3n,
  vmStateSize32: 9,
  vmStateSize64: 4,
  diskSize: 0xa00000,
  icount: ICOUNT_OFF,
  unknownExtra: new Uint8Array(0),
  id: nameOf('1'),
  name: nameOf('first'),
};
const without = { vmStateSize64: undefined, diskSize: undefined, icount: undefined };

describe('snapshot table', () => {
  it('takes the 64-bit VM state size where there is one', () => {
    expect(vmStateSize(snapshot)).toBe(4);
    expect(vmStateSize({ ...snapshot, ...without })).toBe(9);
  });

  it('can be measured piece by piece', () => {
    const table = encodeSnapshotTable([snapshot, snapshot]);
    expect(table).toHaveLength(72 + 70);
    const steps: number[] = [];
    let have = 0;
    for (;;) {
      const extent = measureSnapshotTable(table.subarray(0, have), 2);
      if (extent.complete) break;
      steps.push(extent.length);
      have = extent.length;
    }
    expect(steps).toEqual([40, 70, 112, 142]);
    expect(measureSnapshotTable(table, 2)).toEqual({ complete: true, length: 142 });
    expect(measureSnapshotTable(table, 0)).toEqual({ complete: true, length: 0 });
  });

  it('never trusts the count or a size', () => {
    const table = encodeSnapshotTable([snapshot]);
    expect(() => parseSnapshotTable(table, 2 ** 32 - 1)).toThrow(/snapshot table entry 1: needs/);
    new DataView(table.buffer).setUint32(36, 2 ** 32 - 1);
    expect(() => parseSnapshotTable(table, 1)).toThrow(/extra_data_size is 4294967295/);
    expect(() => parseSnapshotTable(table, 1, { forCheck: true })).toThrow(/ends at byte/);
    expect(() => measureSnapshotTable(table, 1)).toThrow(/must have at most 67108864/);
  });

  it('accepts 1024 bytes of extra data, more only for check', () => {
    const fill = (extra: number) =>
      encodeSnapshotTable([{ ...snapshot, unknownExtra: new Uint8Array(extra - 24).fill(7) }]);
    expect(parseSnapshotTable(fill(1024), 1)[0]?.unknownExtra).toHaveLength(1000);
    expect(() => parseSnapshotTable(fill(1025), 1)).toThrow(/must be 0 to 1024/);
    expect(parseSnapshotTable(fill(1025), 1, { forCheck: true })).toHaveLength(1);
  });

  it('refuses to write what cannot be read back', () => {
    expect(() => encodeSnapshotTable([{ ...snapshot, diskSize: undefined }])).toThrow(/gap/);
    expect(() => encodeSnapshotTable([{ ...snapshot, vmStateSize64: undefined }])).toThrow(/gap/);
    const tail = { ...snapshot, icount: undefined, unknownExtra: new Uint8Array(8) };
    expect(() => encodeSnapshotTable([tail])).toThrow(/gap/);
    const long = { ...snapshot, name: nameOf('n'.repeat(65536)) };
    expect(() => encodeSnapshotTable([long])).toThrow(/name_size cannot be stored/);
    expect(() => encodeSnapshotTable(new Array(65537).fill(snapshot))).toThrow(/at most 65536/);
  });

  it('checks an L1 pointer before it is followed', () => {
    const check = (change: Partial<Snapshot>) => () =>
      validateSnapshotL1({ ...snapshot, ...change }, geometry, 0x80000);
    expect(check({})).not.toThrow();
    expect(check({ l1TableOffset: 0x70200 })).toThrow(/l1_table_offset is 0x70200/);
    expect(check({ l1TableOffset: 0 })).toThrow(/not 0/);
    expect(check({ l1Size: 4194305 })).toThrow(/l1_size is 4194305/);
    expect(check({ l1TableOffset: 0x90000 })).toThrow(/past the end of the file/);
  });

  const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const text = fc.uint8Array({ maxLength: 30 }).map(nameOf);
  const tail = fc.uint8Array({ maxLength: 7 });
  const known = { vmStateSize64: fc.maxSafeNat(), diskSize: fc.maxSafeNat() };
  const extras = fc.oneof(
    fc.record({ ...known, icount: word, unknownExtra: fc.uint8Array({ maxLength: 50 }) }),
    fc.record({ ...known, icount: fc.constant(undefined), unknownExtra: tail }),
    tail.map((unknownExtra) => ({ ...without, unknownExtra })),
  );
  const fields = fc.record({
    l1TableOffset: fc.maxSafeNat(),
    l1Size: u32,
    dateSec: u32,
    dateNsec: u32,
    vmClockNsec: word,
    vmStateSize32: u32,
    id: text,
    name: text,
  });

  it('round trips', () => {
    const any = fc.tuple(fields, extras).map(([a, b]): Snapshot => ({ ...a, ...b }));
    fc.assert(
      fc.property(fc.array(any, { maxLength: 6 }), (snapshots) => {
        const table = encodeSnapshotTable(snapshots);
        expect(parseSnapshotTable(table, snapshots.length)).toEqual(snapshots);
        const extent = measureSnapshotTable(table, snapshots.length);
        expect(extent).toEqual({ complete: true, length: table.length });
        expect(align8(table.length) - table.length).toBeLessThan(8);
      }),
    );
  });
});
