import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckResult } from '../../src/operations/check.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { at, COPIED, checkImage, patchWords } from './check-support.ts';

const CLUSTER = 65536;
const MIB = 2 ** 20;
const TIB = 2 ** 40;

let dir: string;
beforeAll(() => {
  dir = makeTempDir('check-amplification');
});
afterAll(() => removeTempDir(dir));

/** Writes a sparse file from pieces; all else are holes. */
function makeSparse(
  name: string,
  size: number,
  pieces: [offset: number, bytes: Uint8Array][],
): string {
  const path = join(dir, name);
  const fd = openSync(path, 'w');
  for (const [offset, bytes] of pieces) writeSync(fd, bytes, 0, bytes.length, offset);
  ftruncateSync(fd, size);
  closeSync(fd);
  return path;
}

function words(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  values.forEach((value, index) => {
    bytes.writeBigUInt64BE(value, index * 8);
  });
  return bytes;
}

interface HeaderFields {
  size: bigint;
  l1Size: number;
  l1: number;
  refcountTable: number;
  refcountTableClusters?: number;
  snapshots?: [count: number, offset: number];
  refcountOrder?: number;
}

/** A version 3 header of 104 bytes with 64 KiB clusters. */
function header(fields: HeaderFields): Buffer {
  const bytes = Buffer.alloc(CLUSTER);
  const [snapshots, snapshotsOffset] = fields.snapshots ?? [0, 0];
  bytes.writeUInt32BE(0x514649fb, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(fields.size, 24);
  bytes.writeUInt32BE(fields.l1Size, 36);
  bytes.writeBigUInt64BE(BigInt(fields.l1), 40);
  bytes.writeBigUInt64BE(BigInt(fields.refcountTable), 48);
  bytes.writeUInt32BE(fields.refcountTableClusters ?? 1, 56);
  bytes.writeUInt32BE(snapshots, 60);
  bytes.writeBigUInt64BE(BigInt(snapshotsOffset), 64);
  bytes.writeUInt32BE(fields.refcountOrder ?? 4, 96);
  bytes.writeUInt32BE(104, 100);
  return bytes;
}

/** 32-bit counters. */
function counters32(counts: readonly number[]): Buffer {
  const block = Buffer.alloc(CLUSTER);
  counts.forEach((count, cluster) => {
    block.writeUInt32BE(count, cluster * 4);
  });
  return block;
}

/** Checks, and holds the check to a time and to memory that do not follow what the file claims. */
async function checkWithin(path: string, seconds: number, mebibytes: number): Promise<CheckResult> {
  const memoryBefore = process.memoryUsage().rss;
  const start = performance.now();
  const result = await checkImage(path);
  expect((performance.now() - start) / 1000).toBeLessThan(seconds);
  expect((process.memoryUsage().rss - memoryBefore) / MIB).toBeLessThan(mebibytes);
  return result;
}

describe('check takes time and memory by what is in the tables', () => {
  it('65536 snapshots of one L1 table are counted, not walked', async () => {
    const count = 65536;
    const [table, block, l1, l2, list] = [1, 2, 3, 4, 5].map((cluster) => cluster * CLUSTER);
    const dataCluster = 5 + 64;
    const entry = Buffer.alloc(64);
    entry.writeBigUInt64BE(BigInt(l1!), 0);
    entry.writeUInt32BE(1, 8);
    entry.writeUInt32BE(24, 36);
    const references = [1, 1, 1, 1 + count, 1 + count];
    const path = makeSparse('snapshots', (dataCluster + 1000) * CLUSTER, [
      [
        0,
        header({
          size: 512n * BigInt(MIB),
          l1Size: 1,
          l1: l1!,
          refcountTable: table!,
          snapshots: [count, list!],
          refcountOrder: 5,
        }),
      ],
      [table!, words(BigInt(block!))],
      [
        block!,
        counters32([
          ...references,
          ...Array<number>(64).fill(1),
          ...Array<number>(1000).fill(1 + count),
        ]),
      ],
      [l1!, words(BigInt(l2!))],
      [l2!, words(...Array.from({ length: 1000 }, (_, i) => BigInt((dataCluster + i) * CLUSTER)))],
      [list!, Buffer.concat(Array<Buffer>(count).fill(entry))],
    ]);
    const result = await checkWithin(path, 10, 300);
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: 1000 });
  });

  it('four million L1 entries that name one L2 table are one walk', async () => {
    const l1Size = 4 * MIB;
    const path = makeSparse('aliased', 700 * CLUSTER, [
      [
        0,
        header({
          size: BigInt(l1Size) * 512n * BigInt(MIB),
          l1Size,
          l1: 4 * CLUSTER,
          refcountTable: CLUSTER,
          refcountOrder: 5,
        }),
      ],
      [CLUSTER, words(2n * BigInt(CLUSTER))],
      [2 * CLUSTER, counters32([1, 1, 1, l1Size, ...Array<number>(512).fill(1), l1Size])],
      [3 * CLUSTER, words(516n * BigInt(CLUSTER))],
      [4 * CLUSTER, Buffer.alloc(l1Size * 8, words(3n * BigInt(CLUSTER)))],
    ]);
    const result = await checkWithin(path, 15, 300);
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, allocatedClusters: l1Size });
    expect(result.imageEndOffset).toBe(517 * CLUSTER);
  });

  it('a disk of 1 PiB without data', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'huge', '1P'], dir);
    const result = await checkWithin(at(dir, 'huge'), 5, 100);
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, totalClusters: 2 ** 34 });
  });

  it('a cluster 10 TiB away', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'far', '10M'], dir);
    await runOk('qemu-io', ['-c', 'write 0 64k', 'far'], dir);
    const path = at(dir, 'far');
    patchWords(path, [0x40008, COPIED | BigInt(10 * TIB - CLUSTER)]);
    await runOk('truncate', ['-s', '10T', 'far'], dir);
    const result = await checkWithin(path, 5, 100);
    expect([result.corruptions, result.imageEndOffset]).toEqual([2, 10 * TIB]);
  });

  it('L2 entries that point all over a sparse file', async () => {
    const entries = Array.from(
      { length: 8192 },
      (_, i) => COPIED | BigInt(i * 1024 * MIB + CLUSTER * 8),
    );
    const path = makeSparse('scattered', 9 * TIB, [
      [0, header({ size: 512n * BigInt(MIB), l1Size: 1, l1: 3 * CLUSTER, refcountTable: CLUSTER })],
      [CLUSTER, words(BigInt(2 * CLUSTER))],
      [2 * CLUSTER, Buffer.from([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])],
      [3 * CLUSTER, words(COPIED | BigInt(4 * CLUSTER))],
      [4 * CLUSTER, words(...entries)],
    ]);
    const result = await checkWithin(path, 10, 150);
    expect(result.corruptions).toBe(2 * 8192);
  });

  it('one refcount block for every cluster of a large file', async () => {
    const entries = (8 * TIB) / CLUSTER / 32768;
    const path = makeSparse('leaks', 8 * TIB, [
      [0, header({ size: 0n, l1Size: 0, l1: 0, refcountTable: CLUSTER })],
      [CLUSTER, words(...Array<bigint>(entries).fill(BigInt(2 * CLUSTER)))],
      [2 * CLUSTER, Buffer.alloc(CLUSTER, 1)],
    ]);
    const result = await checkWithin(path, 20, 150);
    expect(result.leaks).toBe((8 * TIB) / CLUSTER - 1);
    expect([result.findings.length, result.imageEndOffset]).toEqual([1000, 8 * TIB]);
  });
});
