// SHA-256 (FIPS 180-4): the compression function. Padding is the caller's.

const CONSTANTS = memory.data<u32>([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
], 16);

/** The words of the message schedule. */
const SCHEDULE = memory.data(64 << 2, 16);

// @ts-ignore: decorator
@inline
function first(e: u32, f: u32, g: u32, h: u32, word: usize): u32 {
  const sum = rotr<u32>(e, 6) ^ rotr<u32>(e, 11) ^ rotr<u32>(e, 25);
  return h + sum + ((e & (f ^ g)) ^ g) + load<u32>(word) + load<u32>(word + CONSTANTS - SCHEDULE);
}

// @ts-ignore: decorator
@inline
function second(a: u32, b: u32, c: u32): u32 {
  return (rotr<u32>(a, 2) ^ rotr<u32>(a, 13) ^ rotr<u32>(a, 22)) + ((a & (b | c)) | (b & c));
}

/** The 64 words of a block of 64 bytes. */
// @ts-ignore: decorator
@inline
function expand(block: usize): void {
  for (let at: usize = 0; at < 64; at += 4) {
    store<u32>(SCHEDULE + at, bswap<u32>(load<u32>(block + at)));
  }
  for (let p = SCHEDULE; p < SCHEDULE + 192; p += 4) {
    const w1 = load<u32>(p, 4);
    const w14 = load<u32>(p, 56);
    const s0 = rotr<u32>(w1, 7) ^ rotr<u32>(w1, 18) ^ (w1 >> 3);
    const s1 = rotr<u32>(w14, 17) ^ rotr<u32>(w14, 19) ^ (w14 >> 10);
    store<u32>(p, load<u32>(p) + s0 + load<u32>(p, 36) + s1, 64);
  }
}

/** Takes `blocks` blocks of 64 bytes at `ptr` into the eight words at `state`. */
export function sha256_blocks(state: usize, ptr: usize, blocks: u32): void {
  for (const end = ptr + ((<usize>blocks) << 6); ptr < end; ptr += 64) {
    expand(ptr);
    let a = load<u32>(state);
    let b = load<u32>(state, 4);
    let c = load<u32>(state, 8);
    let d = load<u32>(state, 12);
    let e = load<u32>(state, 16);
    let f = load<u32>(state, 20);
    let g = load<u32>(state, 24);
    let h = load<u32>(state, 28);
    // Eight rounds a turn: afterwards the words are in their places again.
    for (let p = SCHEDULE; p < SCHEDULE + 256; p += 32) {
      let t = first(e, f, g, h, p);
      d += t;
      h = t + second(a, b, c);
      t = first(d, e, f, g, p + 4);
      c += t;
      g = t + second(h, a, b);
      t = first(c, d, e, f, p + 8);
      b += t;
      f = t + second(g, h, a);
      t = first(b, c, d, e, p + 12);
      a += t;
      e = t + second(f, g, h);
      t = first(a, b, c, d, p + 16);
      h += t;
      d = t + second(e, f, g);
      t = first(h, a, b, c, p + 20);
      g += t;
      c = t + second(d, e, f);
      t = first(g, h, a, b, p + 24);
      f += t;
      b = t + second(c, d, e);
      t = first(f, g, h, a, p + 28);
      e += t;
      a = t + second(b, c, d);
    }
    store<u32>(state, load<u32>(state) + a);
    store<u32>(state, load<u32>(state, 4) + b, 4);
    store<u32>(state, load<u32>(state, 8) + c, 8);
    store<u32>(state, load<u32>(state, 12) + d, 12);
    store<u32>(state, load<u32>(state, 16) + e, 16);
    store<u32>(state, load<u32>(state, 20) + f, 20);
    store<u32>(state, load<u32>(state, 24) + g, 24);
    store<u32>(state, load<u32>(state, 28) + h, 28);
  }
}
