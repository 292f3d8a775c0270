import { Qcow2Error } from '../errors.ts';
import type { Storage } from './storage.ts';

/**
 * Bytes in memory that can grow: a target for small images. Bytes are taken for it wherever an image
 * is opened.
 * @example
 * import { create, Image, MemoryStorage } from 'qcow2';
 *
 * const target = new MemoryStorage();
 * await create(target, { format: 'qcow2', size: 1024 ** 3 });
 * const image = await Image.open(target.bytes);
 * console.log(target.size, image.virtualSize);
 */
export class MemoryStorage implements Storage {
  readonly name: string;
  #bytes: Uint8Array;
  #size: number;

  /** Takes `bytes` without copying; growing replaces the array. */
  constructor(bytes: Uint8Array = new Uint8Array(0), name = 'memory') {
    this.#bytes = bytes;
    this.#size = bytes.length;
    this.name = name;
  }

  get size(): number {
    return this.#size;
  }

  /** The contents so far; valid until the next growth. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }

  read(offset: number, into: Uint8Array): number {
    if (offset >= this.#size) return 0;
    const from = this.#bytes.subarray(offset, Math.min(this.#size, offset + into.length));
    into.set(from);
    return from.length;
  }

  write(offset: number, from: Uint8Array): void {
    const end = offset + from.length;
    if (end > this.#size) this.truncate(end);
    this.#bytes.set(from, offset);
  }

  /** @throws Qcow2Error TOO_LARGE: there is no memory for so much */
  truncate(size: number): void {
    if (size > this.#bytes.length) {
      const grown = this.#allocate(Math.max(size, Math.min(this.#bytes.length * 2, size * 2)));
      grown.set(this.bytes);
      this.#bytes = grown;
    } else if (size < this.#size) {
      this.#bytes.fill(0, size, this.#size);
    }
    this.#size = size;
  }

  /** Bytes past the end stay past it; the memory stays. */
  punchHole(offset: number, length: number): void {
    this.#bytes.fill(0, Math.min(offset, this.#size), Math.min(offset + length, this.#size));
  }

  flush(): void {}

  close(): void {}

  #allocate(size: number): Uint8Array {
    try {
      return new Uint8Array(size);
    } catch (cause) {
      const message = `Cannot grow '${this.name}' to ${size} bytes in memory; write to a file instead`;
      throw new Qcow2Error('TOO_LARGE', message, { value: size }, { cause });
    }
  }
}
