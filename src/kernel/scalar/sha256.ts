import type { ScalarMemory } from './memory.ts';

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
const CONSTANTS = cubeRoots();
const schedule = new Int32Array(64);

/** Twin of `sha256_blocks`. */
export function sha256Blocks(
  { view }: ScalarMemory,
  state: number,
  ptr: number,
  blocks: number,
): void {
  const hash = new Int32Array(8);
  for (let i = 0; i < 8; i++) hash[i] = view.getInt32(state + 4 * i, true);
  for (let block = 0; block < blocks; block++) {
    expand(view, ptr + 64 * block);
    compress(hash);
  }
  for (let i = 0; i < 8; i++) view.setInt32(state + 4 * i, hash[i]!, true);
}

function expand(view: DataView, block: number): void {
  const w = schedule;
  for (let i = 0; i < 16; i++) w[i] = view.getInt32(block + 4 * i);
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15]!;
    const y = w[i - 2]!;
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = w[i - 16]! + s0 + w[i - 7]! + s1;
  }
}

function compress(hash: Int32Array): void {
  let a = hash[0]!;
  let b = hash[1]!;
  let c = hash[2]!;
  let d = hash[3]!;
  let e = hash[4]!;
  let f = hash[5]!;
  let g = hash[6]!;
  let h = hash[7]!;
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & (f ^ g)) ^ g) + CONSTANTS[i]! + schedule[i]!) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & (b | c)) | (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  hash[0] = hash[0]! + a;
  hash[1] = hash[1]! + b;
  hash[2] = hash[2]! + c;
  hash[3] = hash[3]! + d;
  hash[4] = hash[4]! + e;
  hash[5] = hash[5]! + f;
  hash[6] = hash[6]! + g;
  hash[7] = hash[7]! + h;
}

function cubeRoots(): Int32Array {
  const roots = new Int32Array(64);
  for (let candidate = 2n, count = 0; count < 64; candidate++) {
    let isPrime = true;
    for (let k = 2n; k * k <= candidate; k++) if (candidate % k === 0n) isPrime = false;
    if (!isPrime) continue;
    // The largest root with root³ <= candidate · 2⁹⁶, bit by bit.
    let root = 0n;
    for (let bit = 1n << 35n; bit > 0n; bit >>= 1n)
      if ((root + bit) ** 3n <= candidate << 96n) root += bit;
    roots[count++] = Number(BigInt.asIntN(32, root));
  }
  return roots;
}
