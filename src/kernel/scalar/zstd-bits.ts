import { ZSTD_INVALID } from '../abi.ts';

/** Ends a decoder with a status of the ABI. */
export class ZstdStop {
  readonly status: number;

  constructor(status: number) {
    this.status = status;
  }
}

/** Bytes `position .. end` of the input, read from the front; too few of them are `status`. */
export class ByteReader {
  readonly u8: Uint8Array;
  position: number;
  readonly end: number;
  readonly #status: number;

  constructor(u8: Uint8Array, position: number, end: number, status: number) {
    this.u8 = u8;
    this.position = position;
    this.end = end;
    this.#status = status;
  }

  get left(): number {
    return this.end - this.position;
  }

  /** Steps over `count` bytes; returns where they begin. */
  skip(count: number): number {
    if (count > this.left) throw new ZstdStop(this.#status);
    this.position += count;
    return this.position - count;
  }

  /** The next `count` bytes as a little-endian number; above 2^53 it is rounded. */
  number(count: number): number {
    const start = this.skip(count);
    let value = 0;
    for (let i = count - 1; i >= 0; i--) value = value * 256 + (this.u8[start + i] as number);
    return value;
  }

  /** The next `count` bytes as a reader of their own, in which too few bytes are invalid. */
  part(count: number): ByteReader {
    const start = this.skip(count);
    return new ByteReader(this.u8, start, start + count, ZSTD_INVALID);
  }
}

/** A stream of bits that is read from its end to its start (RFC 8878, 4.1). */
export class BackwardBits {
  readonly #u8: Uint8Array;
  readonly #start: number;
  /** Bits that are left; negative after `tryRead` asked for more. */
  left: number;

  /** All that `bytes` has left. */
  constructor(bytes: ByteReader) {
    const last = bytes.left > 0 ? (bytes.u8[bytes.end - 1] as number) : 0;
    if (last === 0) throw new ZstdStop(ZSTD_INVALID);
    this.#u8 = bytes.u8;
    this.#start = bytes.position;
    // The highest bit set is a mark.
    this.left = bytes.left * 8 - 8 + 31 - Math.clz32(last);
  }

  /** The next `count` (0 to 31) bits, the first one highest; those behind the end are zeros. */
  tryRead(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      this.left--;
      const byte = this.left < 0 ? 0 : (this.#u8[this.#start + (this.left >> 3)] as number);
      value = value * 2 + ((byte >> (this.left & 7)) & 1);
    }
    return value;
  }

  read(count: number): number {
    const value = this.tryRead(count);
    if (this.left < 0) throw new ZstdStop(ZSTD_INVALID);
    return value;
  }
}
