import { createHash } from 'node:crypto';
import { inflateRawSync } from 'node:zlib';
import { expect } from 'vitest';
import {
  compressedClusters,
  encodeCompressed,
  writeCompressed,
} from '../../src/format/compressed-descriptor.ts';
import { viewOf } from '../../src/format/fields.ts';
import { decodeL1Entry, encodeL1Entry, writeL1 } from '../../src/format/l1-entry.ts';
import {
  decodeExtendedL2Entry,
  decodeL2Entry,
  type ExtendedL2Entry,
  encodeL2Normal,
  encodeL2ZeroAllocated,
  encodeSubclusterBitmap,
  type L2Entry,
  subclusterState,
  writeL2Normal,
  writeL2Unallocated,
  writeL2ZeroAllocated,
  writeL2ZeroPlain,
  writeSubclusterBitmap,
} from '../../src/format/l2-entry.ts';
import {
  decodeRefcountTableEntry,
  getRefcount,
  setRefcount,
  writeRefcountTableEntry,
} from '../../src/format/refcount-entry.ts';
import { contextOf, fromHex, toHex, type Vector, wordOf } from './vector.ts';

/** The bytes a writer leaves in an entry that held ones before. */
function written(bytes: number, write: (view: DataView) => void): string {
  const entry = new Uint8Array(bytes).fill(0xff);
  write(viewOf(entry));
  return toHex(entry);
}

export function verifyL1Entry(vector: Vector): void {
  const { geometry } = contextOf(vector);
  const { l2_offset, copied_bit, allocated } = vector.decoded;
  const entry = decodeL1Entry(wordOf(vector), geometry);
  expect(entry.l2Offset).toBe(Number(l2_offset));
  expect(entry.copied).toBe(copied_bit);
  expect(entry.l2Offset !== 0).toBe(allocated);
  expect(entry.reservedBits).toBe(0n);
  expect(entry.invalid).toBe(vector.id.includes('unaligned') ? 'unaligned' : undefined);
  expect(encodeL1Entry(entry.l2Offset, entry.copied)).toBe(wordOf(vector));
  expect(written(8, (view) => writeL1(view, 0, entry.l2Offset, entry.copied))).toBe(vector.hex);
}

function verifyDescriptor(
  entry: (L2Entry | ExtendedL2Entry) & { kind: 'compressed' },
  vector: Vector,
): void {
  const { geometry } = contextOf(vector);
  const { decoded } = vector;
  expect(entry.hostOffset).toBe(Number(decoded.host_offset));
  expect(entry.additionalSectors).toBe(decoded.additional_sectors);
  expect(entry.maxBytes).toBe(decoded.max_compressed_bytes);
  expect(geometry.compressedOffsetBits).toBe(decoded.offset_bits);
  const { first, last } = compressedClusters(entry, geometry);
  expect(first !== last).toBe(decoded.last_byte_cluster_differs);
  const { hostOffset, maxBytes } = entry;
  expect(encodeCompressed(hostOffset, maxBytes, geometry)).toBe(entry.word);
  const bytes = written(8, (view) => writeCompressed(view, 0, hostOffset, maxBytes, geometry));
  expect(bytes).toBe(vector.hex.slice(0, 16));
}

function reencoded(entry: L2Entry): { word: bigint; hex: string } {
  switch (entry.kind) {
    case 'normal':
      return {
        word: encodeL2Normal(entry.hostOffset, entry.copied),
        hex: written(8, (view) => writeL2Normal(view, 0, entry.hostOffset, entry.copied)),
      };
    case 'zero-allocated':
      return {
        word: encodeL2ZeroAllocated(entry.hostOffset, entry.copied),
        hex: written(8, (view) => writeL2ZeroAllocated(view, 0, entry.hostOffset, entry.copied)),
      };
    case 'zero-plain':
      return { word: entry.word, hex: written(8, (view) => writeL2ZeroPlain(view, 0)) };
    default:
      return { word: entry.word, hex: written(8, (view) => writeL2Unallocated(view, 0)) };
  }
}

export function verifyL2Entry(vector: Vector): void {
  const entry = decodeL2Entry(wordOf(vector), contextOf(vector));
  const { type, copied_bit, host_offset } = vector.decoded;
  expect(entry.kind).toBe(type === 'zero_alloc' ? 'zero-allocated' : type.replace('_', '-'));
  expect(entry.copied).toBe(copied_bit);
  expect(entry.invalid).toBeUndefined();
  expect(entry.reservedBits).toBe(0n);
  if (entry.kind === 'compressed') {
    verifyDescriptor(entry, vector);
    return;
  }
  expect('hostOffset' in entry ? entry.hostOffset : null).toBe(
    host_offset === null ? null : Number(host_offset),
  );
  expect(entry.kind.startsWith('zero')).toBe(vector.decoded.zero_flag);
  expect(reencoded(entry)).toEqual({ word: wordOf(vector), hex: vector.hex });
}

const LETTERS = {
  normal: 'N',
  'zero-allocated': 'Z',
  'zero-plain': 'Z',
  'unallocated-in-cluster': 'U',
  unallocated: 'U',
} as const;

export function verifyExtendedL2Entry(vector: Vector): void {
  const word = BigInt(`0x${vector.hex.slice(0, 16)}`);
  const bitmap = BigInt(`0x${vector.hex.slice(16)}`);
  const entry = decodeExtendedL2Entry(word, bitmap, contextOf(vector));
  const { decoded } = vector;
  expect(entry.kind).toBe(decoded.type === 'normal' ? 'allocated' : decoded.type);
  expect(entry.copied).toBe(decoded.copied_bit);
  expect(entry.invalid).toBeUndefined();
  expect(entry.reservedBits).toBe(0n);
  if (entry.kind === 'compressed') {
    verifyDescriptor(entry, vector);
    expect(entry.bitmap).toBe(BigInt(decoded.subcluster_bitmap));
    return;
  }
  const host = entry.kind === 'allocated' ? entry.hostOffset : null;
  expect(host).toBe(decoded.host_offset === null ? null : Number(decoded.host_offset));
  expect(entry.allocBits).toBe(Number(decoded.alloc_bits));
  expect(entry.zeroBits).toBe(Number(decoded.zero_bits));
  const letters = Array.from({ length: 32 }, (_, k) => LETTERS[subclusterState(entry, k)]);
  expect(letters.join('')).toBe(decoded.subclusters);
  expect(encodeSubclusterBitmap(entry.allocBits, entry.zeroBits)).toBe(bitmap);
  const bytes = written(16, (view) => {
    if (host === null) writeL2Unallocated(view, 0);
    else writeL2Normal(view, 0, host, entry.copied);
    writeSubclusterBitmap(view, 0, entry.allocBits, entry.zeroBits);
  });
  expect(bytes).toBe(vector.hex);
}

export function verifyRefcountTableEntry(vector: Vector): void {
  const entry = decodeRefcountTableEntry(wordOf(vector), contextOf(vector).geometry);
  expect(entry.blockOffset).toBe(Number(vector.decoded.refcount_block_offset));
  expect(entry.reservedBits).toBe(0n);
  expect(entry.invalid).toBeUndefined();
  expect(written(8, (view) => writeRefcountTableEntry(view, 0, entry.blockOffset))).toBe(
    vector.hex,
  );
}

export function verifyRefcountBlockSlice(vector: Vector): void {
  const block = fromHex(vector.hex);
  const order = vector.context.refcount_order ?? 4;
  const { refcount_bits, refcounts } = vector.decoded;
  expect(2 ** order).toBe(refcount_bits);
  expect(refcounts.map((_: number, index: number) => getRefcount(block, index, order))).toEqual(
    refcounts,
  );
  const again = new Uint8Array(block.length);
  refcounts.forEach((value: number, index: number) => {
    setRefcount(again, index, order, value);
  });
  expect(toHex(again)).toBe(vector.hex);
}

export function verifyCompressedPayload(vector: Vector): void {
  const stream = fromHex(vector.hex);
  const { codec, stream_bytes, plain_length, plain_pattern, plain_sha256 } = vector.decoded;
  expect(stream.length).toBe(stream_bytes);
  expect(plain_length).toBe(contextOf(vector).geometry.clusterSize);
  const plain = new Uint8Array(plain_length).fill(Number(plain_pattern));
  expect(createHash('sha256').update(plain).digest('hex')).toBe(plain_sha256);
  if (codec === 'zstd') verifyZstdFrame(stream, plain_length);
  else expect(toHex(inflateRawSync(stream))).toBe(toHex(plain));
}

/** One single-segment frame with content size, no checksum, one block that ends with the stream. */
function verifyZstdFrame(stream: Uint8Array, plainLength: number): void {
  const view = viewOf(stream);
  expect(view.getUint32(0, true)).toBe(0xfd2fb528);
  expect(view.getUint8(4)).toBe(0x60);
  expect(view.getUint16(5, true) + 256).toBe(plainLength);
  const block = view.getUint16(7, true) | (view.getUint8(9) << 16);
  expect(block & 1).toBe(1);
  expect((block >> 1) & 3).toBe(2);
  expect(10 + (block >> 3)).toBe(stream.length);
}
