import { readFileSync } from 'node:fs';

const LENGTH_EXTRA = [...Array.from({ length: 28 }, (_, i) => (i < 8 ? 0 : (i >> 2) - 1)), 0];
const DISTANCE_EXTRA = Array.from({ length: 30 }, (_, i) => (i < 4 ? 0 : (i >> 1) - 1));
const PRECODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Writes deflate streams by hand. */
export class BitWriter {
  readonly #bits: number[] = [];

  /** A number, least significant bit first. */
  bits(value: number, count: number): this {
    for (let i = 0; i < count; i++) this.#bits.push(i < 31 ? (value >> i) & 1 : 0);
    return this;
  }

  /** A codeword, most significant bit first. */
  code(value: number, count: number): this {
    for (let i = count - 1; i >= 0; i--) this.#bits.push((value >> i) & 1);
    return this;
  }

  stored(data: Uint8Array, isLast: boolean): this {
    this.bits(isLast ? 1 : 0, 1).bits(0, 2);
    while (this.#bits.length % 8 !== 0) this.#bits.push(0);
    this.bits(data.length, 16).bits(~data.length & 0xffff, 16);
    for (const byte of data) this.bits(byte, 8);
    return this;
  }

  fixedBlock(isLast: boolean): this {
    return this.bits(isLast ? 1 : 0, 1).bits(1, 2);
  }

  fixedLitlen(symbol: number): this {
    if (symbol < 144) return this.code(0x30 + symbol, 8);
    if (symbol < 256) return this.code(0x190 + symbol - 144, 9);
    if (symbol < 280) return this.code(symbol - 256, 7);
    return this.code(0xc0 + symbol - 280, 8);
  }

  fixedLiteral(byte: number): this {
    return this.fixedLitlen(byte);
  }

  fixedEnd(): this {
    return this.fixedLitlen(256);
  }

  fixedMatch(length: number, distance: number): this {
    let symbol = 0;
    let base = 3;
    while (length !== 258 && base + 2 ** (LENGTH_EXTRA[symbol] as number) <= length) {
      base += 2 ** (LENGTH_EXTRA[symbol++] as number);
    }
    if (length === 258) this.fixedLitlen(285);
    else this.fixedLitlen(257 + symbol).bits(length - base, LENGTH_EXTRA[symbol] as number);
    symbol = 0;
    base = 1;
    while (base + 2 ** (DISTANCE_EXTRA[symbol] as number) <= distance) {
      base += 2 ** (DISTANCE_EXTRA[symbol++] as number);
    }
    return this.code(symbol, 5).bits(distance - base, DISTANCE_EXTRA[symbol] as number);
  }

  /** Header of a dynamic block: every length in 4 bits, by a precode of 16 codewords of 4 bits. */
  dynamicBlock(litlen: readonly number[], distances: readonly number[], isLast = true): this {
    this.bits(isLast ? 1 : 0, 1).bits(2, 2);
    this.bits(litlen.length - 257, 5)
      .bits(distances.length - 1, 5)
      .bits(15, 4);
    for (const symbol of PRECODE_ORDER) this.bits(symbol < 16 ? 4 : 0, 3);
    for (const length of [...litlen, ...distances]) this.code(length, 4);
    return this;
  }

  bytes(): Uint8Array {
    const result = new Uint8Array(Math.ceil(this.#bits.length / 8));
    this.#bits.forEach((bit, i) => {
      result[i >> 3] = (result[i >> 3] as number) | (bit << (i & 7));
    });
    return result;
  }
}

/** Text, code, machine code, noise and long runs; each at most 64 KiB. */
export function corpus(): Buffer[] {
  const text = readFileSync(new URL('../../src/kernel/exports.ts', import.meta.url));
  const wasm = readFileSync(new URL('../../build/kernel-debug-simd.wasm', import.meta.url));
  const code = wasm.subarray(0, 100_000);
  const noise = Buffer.alloc(20_000);
  let state = 1;
  for (let i = 0; i < noise.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    noise[i] = state >>> 24;
  }
  const sparse = Buffer.alloc(65_536);
  for (let i = 0; i < sparse.length; i += 997) sparse[i] = noise[i % noise.length] as number;
  const rows = Buffer.from(
    Array.from({ length: 1500 }, (_, i) => `${i};${(i * 7919) % 1000};row ${i % 13}\n`).join(''),
  );
  return [text, code, noise, sparse, Buffer.alloc(65_536, 7), rows];
}
