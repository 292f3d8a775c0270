import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { shell } from './check-support.ts';

/** Small images with every kind of metadata: their creation options and what is done to them. */
export const IMAGES: readonly [name: string, cluster: number, lines: string][] = [
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

/** Makes the images in a folder; their bytes. */
export async function makeImages(dir: string): Promise<Buffer[]> {
  const originals: Buffer[] = [];
  for (const [name, cluster, lines] of IMAGES) {
    const functions = [
      `create() { s=$1; shift; qemu-img create -q -f qcow2 -o cluster_size=${cluster} "$@" ${name} $s; }`,
      `io() { for c in "$@"; do qemu-io -c "$c" ${name}; done; }`,
      `snapshot() { qemu-img snapshot -c s ${name}; }`,
    ];
    await shell([...functions, lines], dir);
    originals.push(readFileSync(join(dir, name)));
  }
  return originals;
}

/** One word changed: which of the words that are not 0, and how. */
export const mutation = fc.record({
  word: fc.nat(),
  cluster: fc.nat(),
  how: fc.constantFrom('bit', 'cluster', 'copied', 'zero', 'unaligned', 'stream', 'random'),
  bit: fc.integer({ min: 0, max: 63 }),
  value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
});
export type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

/** Changes a word of the metadata. */
export function mutate(
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
