import { expect } from 'vitest';
import {
  BITMAP_AUTO,
  BITMAP_EXTRA_DATA_COMPATIBLE,
  BITMAP_IN_USE,
  type BitmapDirectoryEntry,
  bitmapEntryBytes,
  encodeBitmapDirectory,
  parseBitmapDirectory,
} from '../../src/format/bitmap-directory.ts';
import {
  bitmapTableNeeded,
  decodeBitmapTableEntry,
  dirtyRanges,
  encodeBitmapTableEntry,
  markDirty,
} from '../../src/format/bitmap-table.ts';
import { align8 } from '../../src/format/fields.ts';
import {
  encodeSnapshotTable,
  measureSnapshotTable,
  parseSnapshotTable,
  type Snapshot,
  snapshotBytes,
  validateSnapshotL1,
  vmStateSize,
} from '../../src/format/snapshot-table.ts';
import { contextOf, fromHex, toHex, type Vector, wordOf } from './vector.ts';

export function verifySnapshotEntry(vector: Vector): void {
  const bytes = fromHex(vector.hex);
  const { decoded } = vector;
  expect(measureSnapshotTable(bytes, 1)).toEqual({
    complete: true,
    length: decoded.unpadded_size,
  });
  const [snapshot] = parseSnapshotTable(bytes, 1) as [Snapshot];
  expect({
    l1_table_offset: `0x${snapshot.l1TableOffset.toString(16)}`,
    l1_size: snapshot.l1Size,
    id_str_size: snapshot.id.raw.length,
    name_size: snapshot.name.raw.length,
    date_sec: snapshot.dateSec,
    date_nsec: snapshot.dateNsec,
    vm_clock_nsec: `0x${snapshot.vmClockNsec.toString(16)}`,
    vm_state_size_32: snapshot.vmStateSize32,
    extra_data_size: 24,
    vm_state_size_64: `0x${vmStateSize(snapshot).toString(16)}`,
    disk_size: `0x${snapshot.diskSize?.toString(16)}`,
    icount: `0x${snapshot.icount?.toString(16)}`,
    id_str: snapshot.id.text,
    name: snapshot.name.text,
    unpadded_size: snapshotBytes(snapshot),
    next_entry_offset: `0x${align8(Number(vector.file_offset) + snapshotBytes(snapshot)).toString(16)}`,
  }).toEqual(decoded);
  expect(snapshot.unknownExtra).toHaveLength(0);
  expect(toHex(encodeSnapshotTable([snapshot]))).toBe(vector.hex);
  validateSnapshotL1(snapshot, contextOf(vector).geometry, 0x100000);
}

/** The size of the disks the bitmap vectors were made with. */
const DISK_SIZE = 10 * 1024 * 1024;

export function verifyBitmapDirectoryEntry(vector: Vector): void {
  const { geometry } = contextOf(vector);
  const [entry] = parseBitmapDirectory(fromHex(vector.hex), 1, geometry) as [BitmapDirectoryEntry];
  expect({
    bitmap_table_offset: `0x${entry.bitmapTableOffset.toString(16)}`,
    bitmap_table_size: entry.bitmapTableSize,
    flags: entry.flags,
    in_use: (entry.flags & BITMAP_IN_USE) !== 0,
    auto: (entry.flags & BITMAP_AUTO) !== 0,
    extra_data_compatible: (entry.flags & BITMAP_EXTRA_DATA_COMPATIBLE) !== 0,
    type: entry.type,
    granularity_bits: entry.granularityBits,
    name_size: entry.name.raw.length,
    extra_data_size: entry.extraData.length,
    name: entry.name.text,
    padded_size: bitmapEntryBytes(entry),
  }).toEqual(vector.decoded);
  expect(entry.bitmapTableSize).toBe(bitmapTableNeeded(DISK_SIZE, entry.granularityBits, geometry));
  expect(toHex(encodeBitmapDirectory([entry]))).toBe(vector.hex);
}

export function verifyBitmapTableEntry(vector: Vector): void {
  const entry = decodeBitmapTableEntry(wordOf(vector), contextOf(vector).geometry);
  expect({
    data_offset: `0x${(entry.kind === 'data' ? entry.hostOffset : 0).toString(16)}`,
    all_ones: entry.kind === 'ones',
    reads_as: entry.kind,
  }).toEqual(vector.decoded);
  expect(encodeBitmapTableEntry(entry)).toBe(wordOf(vector));
}

export function verifyBitmapData(vector: Vector): void {
  const data = fromHex(vector.hex);
  const { set_bits, granularity, dirty_ranges } = vector.decoded;
  const bits = Math.log2(granularity);
  const wanted = dirty_ranges.map((range: [string, string]) => range.map(Number));
  const granules: number[][] = [];
  for (const { offset, length } of dirtyRanges(data, bits, DISK_SIZE)) {
    for (let at = offset; at < offset + length; at += granularity) {
      granules.push([at, at + granularity]);
    }
  }
  const onDisk = wanted.filter(([start = 0]: number[]) => start < DISK_SIZE);
  expect(granules).toEqual(onDisk);
  expect(granules.map(([start = 0]) => start / granularity)).toEqual(
    set_bits.filter((bit: number) => bit * granularity < DISK_SIZE),
  );
  const again = new Uint8Array(data.length);
  for (const [start, end] of set_bits.map((bit: number) => [bit, bit + 1])) {
    markDirty(again, bits, { offset: start * granularity, length: (end - start) * granularity });
  }
  expect(toHex(again)).toBe(vector.hex);
}
