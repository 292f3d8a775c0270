import type { Region } from './arena.ts';
import type { Kernel } from './kernel.ts';

const BLOCK_BYTES = 64;
const STATE_BYTES = 32;
/** Bytes taken into the kernel's memory at a time. */
const BUFFER_BYTES = 64 * 1024;

/** The first 32 bits of the fractional parts of the square roots of the first eight primes. */
const INITIAL = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/** The SHA-256 digest of bytes that come in pieces. */
export class Sha256 {
  readonly #kernel: Kernel;
  readonly #state: Region;
  readonly #buffer: Region;
  /** Bytes in the buffer that were not taken yet; less than a block between calls. */
  #held = 0;
  #length = 0;

  /** Its two regions are never given back: the kernel ends with it. */
  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#state = kernel.arena.allocate(STATE_BYTES);
    this.#buffer = kernel.arena.allocate(BUFFER_BYTES);
    kernel.arena.u32.set(INITIAL, this.#state.ptr / 4);
  }

  /** Takes further bytes, of any memory. */
  update(bytes: Uint8Array): void {
    this.#length += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + BUFFER_BYTES - this.#held);
      this.#buffer.bytes.set(part, this.#held);
      this.#held += part.length;
      at += part.length;
      this.#take();
    }
  }

  /** The digest in hexadecimal; nothing can be added afterwards. */
  digest(): string {
    const end = Math.ceil((this.#held + 9) / BLOCK_BYTES) * BLOCK_BYTES;
    const { bytes } = this.#buffer;
    bytes.fill(0, this.#held, end);
    bytes[this.#held] = 0x80;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    view.setUint32(end - 8, Math.floor(this.#length / 2 ** 29));
    view.setUint32(end - 4, (this.#length % 2 ** 29) * 8);
    this.#held = end;
    this.#take();
    const start = this.#state.ptr / 4;
    const words = this.#kernel.arena.u32.subarray(start, start + STATE_BYTES / 4);
    return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
  }

  /** All whole blocks of the buffer; the rest moves to its front. */
  #take(): void {
    const whole = this.#held - (this.#held % BLOCK_BYTES);
    this.#kernel.exports.sha256_blocks(this.#state.ptr, this.#buffer.ptr, whole / BLOCK_BYTES);
    this.#buffer.bytes.copyWithin(0, whole, this.#held);
    this.#held -= whole;
  }
}
