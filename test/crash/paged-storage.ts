import type { Storage } from '../../src/storage/storage.ts';
import { contentOf } from './hash.ts';

const PAGE_BYTES = 4096;

/**
 * Bytes in memory whose copies share what neither has changed since: ten thousand states of an image
 * cost what they differ in. Pages of zeros take nothing.
 */
export class PagedStorage implements Storage {
  readonly name: string;
  #pages: (Uint8Array | undefined)[] = [];
  /** Contents of each page, 0 for zeros; -1: not known. */
  #contents: number[] = [];
  /** Pages no copy knows. */
  #own = new Set<number>();
  #size = 0;

  constructor(name: string, bytes: Uint8Array = new Uint8Array(0)) {
    this.name = name;
    this.write(0, bytes);
  }

  get size(): number {
    return this.#size;
  }

  /** All of it, copied. */
  get bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#size);
    this.read(0, bytes);
    return bytes;
  }

  copy(): PagedStorage {
    const copy = new PagedStorage(this.name);
    copy.#pages = this.#pages.slice();
    copy.#contents = this.#contents.slice();
    copy.#size = this.#size;
    this.#own.clear();
    return copy;
  }

  read(offset: number, into: Uint8Array): number {
    const length = Math.max(0, Math.min(into.length, this.#size - offset));
    for (let done = 0; done < length; ) {
      const at = (offset + done) % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - at, length - done);
      const page = this.#pages[(offset + done - at) / PAGE_BYTES];
      if (page) into.set(page.subarray(at, at + part), done);
      else into.fill(0, done, done + part);
      done += part;
    }
    return length;
  }

  write(offset: number, from: Uint8Array): void {
    this.#size = Math.max(this.#size, offset + from.length);
    for (let done = 0; done < from.length; ) {
      const at = (offset + done) % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - at, from.length - done);
      this.#ownPage((offset + done - at) / PAGE_BYTES).set(from.subarray(done, done + part), at);
      done += part;
    }
  }

  truncate(size: number): void {
    if (size < this.#size) this.punchHole(size, this.#size - size);
    this.#size = size;
  }

  /** Zeros, which never make the file longer. */
  punchHole(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#size);
    for (let done = offset; done < end; ) {
      const at = done % PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - at, end - done);
      const index = (done - at) / PAGE_BYTES;
      if (part === PAGE_BYTES) {
        this.#pages[index] = undefined;
        this.#contents[index] = 0;
      } else if (this.#pages[index]) {
        this.#ownPage(index).fill(0, at, at + part);
      }
      done += part;
    }
  }

  /** Space costs nothing here. */
  allocate(offset: number, length: number): void {
    this.#size = Math.max(this.#size, offset + length);
  }

  flush(): void {}

  close(): void {}

  /** Tells states apart: the same for the same bytes. */
  digest(): string {
    let a = 0;
    let b = this.#size;
    for (let i = 0; i < this.#pages.length; i++) {
      const content = this.#contentOf(i);
      if (content === 0) continue;
      a = (Math.imul(a ^ content, 0x01000193) + i) >>> 0;
      b = (Math.imul(b + Math.floor(content / 2 ** 21), 0x85ebca6b) ^ i) >>> 0;
    }
    return `${this.#size}/${a}/${b}`;
  }

  #contentOf(index: number): number {
    const known = this.#contents[index] ?? 0;
    if (known >= 0) return known;
    const page = this.#pages[index];
    const content = page ? contentOf(page) : 0;
    this.#contents[index] = content;
    return content;
  }

  #ownPage(index: number): Uint8Array {
    let page = this.#pages[index];
    if (page === undefined || !this.#own.has(index)) {
      page = page ? page.slice() : new Uint8Array(PAGE_BYTES);
      while (this.#pages.length < index) {
        this.#pages.push(undefined);
        this.#contents.push(0);
      }
      this.#pages[index] = page;
      this.#own.add(index);
    }
    this.#contents[index] = -1;
    return page;
  }
}
