import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { checkImage, counters, oracle, shell, statusFor } from './check-support.ts';

/** Small images with every kind of metadata: their creation options and what is done to them. */
const IMAGES: readonly [name: string, cluster: number, lines: string][] = [
  ['small', 512, "create 256k; io 'write 0 40k' 'write -z 40k 4k'; snapshot; io 'write 0 8k'"],
  [
    'snapshots',
    4096,
    "create 4M; io 'write 0 64k' 'write -c -P 3 1M 4k'; snapshot; io 'write 0 8k'",
  ],
  ['subclusters', 16384, "create 4M -o extended_l2=on; io 'write 0 64k' 'write 3M 512'; snapshot"],
  ['version-2', 4096, "create 4M -o compat=0.10; io 'write 0 64k' 'write -c 1M 4k'; snapshot"],
  ['narrow', 4096, "create 4M -o refcount_bits=1; io 'write 0 64k' 'write -c 1M 4k' 'write 3M 8k'"],
  ['wide', 4096, "create 4M -o refcount_bits=64; io 'write 0 64k' 'write 3M 8k'; snapshot"],
  ['data-file', 4096, "create 4M -o data_file=data; io 'write 0 64k' 'write -z 8k 8k'"],
];

let dir: string;
const originals: Buffer[] = [];

beforeAll(async () => {
  dir = makeTempDir('check-mutation');
  for (const [name, cluster, lines] of IMAGES) {
    const functions = [
      `create() { s=$1; shift; qemu-img create -q -f qcow2 -o cluster_size=${cluster} "$@" ${name} $s; }`,
      `io() { for c in "$@"; do qemu-io -c "$c" ${name}; done; }`,
      `snapshot() { qemu-img snapshot -c s ${name}; }`,
    ];
    await shell([...functions, lines], dir);
    originals.push(readFileSync(join(dir, name)));
  }
});
afterAll(() => removeTempDir(dir));

/** One word changed: which of the words that are not 0, and how. */
const mutation = fc.record({
  word: fc.nat(),
  cluster: fc.nat(),
  how: fc.constantFrom('bit', 'cluster', 'copied', 'zero', 'unaligned', 'stream', 'random'),
  bit: fc.integer({ min: 0, max: 63 }),
  value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
});
type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

function mutate(
  bytes: Buffer,
  clusterSize: number,
  { word, cluster, how, bit, value }: Mutation,
): void {
  // The header's rules are not the subject; guest data are all the same byte.
  const offsets: number[] = [];
  for (let at = clusterSize; at + 8 <= bytes.length; at += 8) {
    const old = bytes.readBigUInt64BE(at);
    if (old !== 0n && old !== 0xcdcdcdcdcdcdcdcdn) offsets.push(at);
  }
  const at = offsets[word % offsets.length]!;
  const host = BigInt((cluster % (Math.ceil(bytes.length / clusterSize) + 2)) * clusterSize);
  const stream = (value << BigInt(70 - Math.log2(clusterSize))) & (2n ** 62n - 1n);
  const words: Record<Mutation['how'], bigint> = {
    bit: bytes.readBigUInt64BE(at) ^ (1n << BigInt(bit)),
    cluster: host,
    copied: host | (1n << 63n),
    zero: host | (value & 1n),
    unaligned: host | 512n | ((value & 1n) << 63n),
    stream: (1n << 62n) | stream | (host + BigInt(bit)),
    random: value,
  };
  bytes.writeBigUInt64BE(words[how], at);
}

describe('check of damaged metadata', () => {
  it('counts what qemu-img counts, wherever that completes', async () => {
    let completed = 0;
    const property = fc.asyncProperty(
      fc.nat(IMAGES.length - 1),
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      fc.option(fc.nat(6000), { freq: 8 }),
      async (index, mutations, cut) => {
        const bytes = Buffer.from(originals[index]!);
        for (const change of mutations) mutate(bytes, IMAGES[index]![1], change);
        writeFileSync(join(dir, 'mutant'), bytes.subarray(0, bytes.length - (cut ?? 0)));
        const theirs = await oracle('mutant', dir);
        const found = await checkImage(join(dir, 'mutant')).catch((error: unknown) => error);
        if (theirs.counters === undefined) return;
        completed++;
        if (found instanceof Error) throw found;
        const ours = found as Awaited<ReturnType<typeof checkImage>>;
        expect(counters(ours)).toEqual(theirs.counters);
        expect(statusFor(ours)).toBe(theirs.status);
      },
    );
    await fc.assert(property, { numRuns: 120 });
    expect(completed).toBeGreaterThan(80);
  }, 120_000);
});
