import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeContent } from '../support/data.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** A raw file to convert, and a place in it that holds one byte only. */
export interface Source {
  readonly file: string;
  /** Bytes in the file; the disk is this rounded up to whole sectors. */
  readonly length: number;
  readonly known: { readonly offset: number; readonly length: number; readonly byte: number };
}

/** `mixed.raw` has holes, real-like data and one run of a single byte. */
export const MIXED: Source = {
  file: 'mixed.raw',
  length: 4 * MIB,
  known: { offset: MIB + 1536, length: 70 * KIB, byte: 0xa5 },
};

/** Sources whose length or content is out of the ordinary. */
export const ODD_SOURCES: readonly Source[] = [
  { file: 'tiny.raw', length: 512, known: { offset: 0, length: 512, byte: 0x5a } },
  { file: 'ragged.raw', length: MIB + 700, known: { offset: MIB, length: 700, byte: 0xa6 } },
  { file: 'zero.raw', length: 2 * MIB, known: { offset: 0, length: 2 * MIB, byte: 0 } },
  { file: 'random.raw', length: MIB + 512, known: { offset: MIB, length: 512, byte: 0xa7 } },
];

/** Writes all sources into a folder. */
export function makeSources(dir: string): void {
  const mixed = openSync(join(dir, MIXED.file), 'w');
  ftruncateSync(mixed, MIXED.length);
  writeSync(mixed, makeContent('mixed', MIB, 51), 0, MIB, 0);
  writeSync(mixed, new Uint8Array(MIXED.known.length).fill(0xa5), 0, null, MIXED.known.offset);
  writeSync(mixed, makeContent('random', 200 * KIB, 52), 0, null, 2 * MIB + 4 * KIB);
  writeSync(mixed, makeContent('text', 300 * KIB, 53), 0, null, 3 * MIB + 512);
  closeSync(mixed);
  const contents = { 'ragged.raw': 'text', 'random.raw': 'random' } as const;
  for (const { file, length, known } of ODD_SOURCES) {
    const kind = file === 'ragged.raw' || file === 'random.raw' ? contents[file] : 'zero';
    const bytes = makeContent(kind, length, length);
    bytes.fill(known.byte, known.offset, known.offset + known.length);
    writeFileSync(join(dir, file), bytes);
  }
}

/** Options of a qcow2 target as they are typed after `-o`, and flags beside them. */
export interface Target {
  readonly options: string;
  readonly flags?: readonly string[];
}

const COMPRESSED = ['-c'];

/** Pairs of every option's values, each value several times. */
export const TARGETS: readonly Target[] = [
  { options: 'cluster_size=64k' },
  { options: 'compat=0.10' },
  { options: 'compat=0.10,cluster_size=512' },
  { options: 'compat=0.10,cluster_size=4k', flags: COMPRESSED },
  { options: 'compat=0.10,cluster_size=2M', flags: COMPRESSED },
  { options: 'cluster_size=512,refcount_bits=1' },
  { options: 'cluster_size=512,refcount_bits=64', flags: COMPRESSED },
  { options: 'cluster_size=512,refcount_bits=8,lazy_refcounts=on' },
  { options: 'cluster_size=512,data_file=out.data' },
  { options: 'cluster_size=1k,refcount_bits=2' },
  { options: 'cluster_size=1k,refcount_bits=1', flags: COMPRESSED },
  { options: 'cluster_size=1k,refcount_bits=32,compression_type=zstd', flags: COMPRESSED },
  { options: 'cluster_size=4k,refcount_bits=4' },
  { options: 'cluster_size=4k,refcount_bits=4,lazy_refcounts=on', flags: COMPRESSED },
  { options: 'cluster_size=4k,refcount_bits=64,data_file=out.data,data_file_raw=on' },
  { options: 'cluster_size=4k,refcount_bits=8,compression_type=zstd', flags: COMPRESSED },
  { options: 'cluster_size=16k,refcount_bits=8,extended_l2=on' },
  { options: 'cluster_size=16k,refcount_bits=1,extended_l2=on', flags: COMPRESSED },
  { options: 'cluster_size=16k,refcount_bits=32,lazy_refcounts=on' },
  { options: 'cluster_size=64k,refcount_bits=1,lazy_refcounts=on', flags: COMPRESSED },
  { options: 'cluster_size=64k,refcount_bits=2,extended_l2=on,data_file=out.data' },
  { options: 'cluster_size=64k,extended_l2=on,data_file=out.data,data_file_raw=on' },
  { options: 'cluster_size=64k,refcount_bits=64,extended_l2=on,lazy_refcounts=on' },
  { options: 'cluster_size=64k,extended_l2=on,compression_type=zstd', flags: COMPRESSED },
  { options: 'cluster_size=64k,data_file=out.data,lazy_refcounts=on' },
  { options: 'cluster_size=64k,data_file=out.data,data_file_raw=on' },
  { options: 'compression_type=zstd' },
  { options: 'compression_type=zlib', flags: COMPRESSED },
  { options: 'cluster_size=256k,refcount_bits=4,compression_type=zstd', flags: COMPRESSED },
  { options: 'cluster_size=256k,refcount_bits=2', flags: COMPRESSED },
  { options: 'cluster_size=256k,refcount_bits=1,extended_l2=on' },
  { options: 'cluster_size=2M,refcount_bits=1' },
  { options: 'cluster_size=2M,refcount_bits=16,compression_type=zstd', flags: COMPRESSED },
  { options: 'cluster_size=2M,refcount_bits=64,extended_l2=on,lazy_refcounts=on' },
  { options: 'cluster_size=2M,data_file=out.data' },
  { options: 'cluster_size=64k', flags: ['-B', 'base.raw', '-F', 'raw'] },
  { options: 'cluster_size=4k,refcount_bits=32', flags: ['-B', 'base.raw', '-F', 'raw', '-c'] },
  { options: 'cluster_size=64k,extended_l2=on', flags: ['-B', 'base.raw', '-F', 'raw'] },
  { options: 'compat=0.10,cluster_size=4k', flags: ['-B', 'base.raw', '-F', 'raw'] },
  { options: 'cluster_size=16k,data_file=out.data', flags: ['-B', 'base.raw', '-F', 'raw'] },
  { options: 'cluster_size=16k,preallocation=metadata' },
  { options: 'cluster_size=64k,preallocation=full' },
  { options: 'cluster_size=512,compat=0.10,preallocation=falloc' },
];

/** What `qemu-img info` must say of an image made with these options. */
export function expectedInfo(target: Target): Record<string, unknown> {
  const asked = new Map(
    target.options.split(',').map((pair) => pair.split('=', 2) as [string, string]),
  );
  const compat = asked.get('compat') ?? '1.1';
  const old = { compat, 'refcount-bits': 16 };
  const backing = target.flags?.indexOf('-B') ?? -1;
  return {
    format: 'qcow2',
    'cluster-size': bytesOf(asked.get('cluster_size') ?? '64k'),
    ...(backing < 0 ? {} : { 'backing-filename': target.flags?.[backing + 1] }),
    'format-specific': {
      type: 'qcow2',
      data: compat === '0.10' ? old : { ...old, ...modernInfo(asked) },
    },
  };
}

function modernInfo(asked: ReadonlyMap<string, string>): Record<string, unknown> {
  const dataFile = asked.get('data_file');
  return {
    'refcount-bits': Number(asked.get('refcount_bits') ?? 16),
    'lazy-refcounts': asked.get('lazy_refcounts') === 'on',
    'extended-l2': asked.get('extended_l2') === 'on',
    'compression-type': asked.get('compression_type') ?? 'zlib',
    corrupt: false,
    ...(dataFile === undefined
      ? {}
      : { 'data-file': dataFile, 'data-file-raw': asked.get('data_file_raw') === 'on' }),
  };
}

function bytesOf(size: string): number {
  const units: Readonly<Record<string, number>> = { k: KIB, M: MIB };
  return Number.parseInt(size, 10) * (units[size.slice(-1)] ?? 1);
}
