/** Bytes of a window: most clusters, so that a compressed one is decoded once. */
const WINDOW = 64 * 1024;
const MAX_WINDOWS = 64;

/** The last windows of a disk that were read, in memory; 4 MiB at most. Offsets are in bytes. */
export class SectorCache {
  readonly #size: number;
  /** By number, the one used longest ago first. */
  readonly #windows = new Map<number, Uint8Array>();

  constructor(size: number) {
    this.#size = size;
  }

  /** Whole windows to be read so that `copy` knows the range; none if it is longer than all of them. */
  missing(offset: number, length: number): [start: number, end: number][] {
    const first = Math.floor(offset / WINDOW);
    const last = Math.floor((offset + length - 1) / WINDOW);
    const missing: [number, number][] = [];
    if (last - first >= MAX_WINDOWS) return missing;
    for (let i = first; i <= last; i++) {
      const window = this.#windows.get(i);
      if (window === undefined) missing.push([i * WINDOW, Math.min((i + 1) * WINDOW, this.#size)]);
      else this.#keep(i, window);
    }
    return missing;
  }

  /** Keeps the window that begins at `start`. */
  fill(start: number, bytes: Uint8Array): void {
    this.#keep(start / WINDOW, bytes);
    for (const number of this.#windows.keys()) {
      if (this.#windows.size <= MAX_WINDOWS) break;
      this.#windows.delete(number);
    }
  }

  /** A copy of the range, or undefined if a part of it is not here. */
  copy(offset: number, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length);
    let known = 0;
    this.#eachPart(offset, length, (window, at, from, count) => {
      bytes.set(window.subarray(from, from + count), at);
      known += count;
    });
    return known === length ? bytes : undefined;
  }

  /** The disk holds other bytes from now on. */
  update(offset: number, bytes: Uint8Array): void {
    this.#eachPart(offset, bytes.length, (window, at, from, count) =>
      window.set(bytes.subarray(at, at + count), from),
    );
  }

  clear(): void {
    this.#windows.clear();
  }

  /** Calls `visit` for each window here that has a part of the range. */
  #eachPart(
    offset: number,
    length: number,
    visit: (window: Uint8Array, at: number, from: number, count: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const from = (offset + at) % WINDOW;
      const count = Math.min(WINDOW - from, length - at);
      const window = this.#windows.get((offset + at - from) / WINDOW);
      if (window) visit(window, at, from, count);
      at += count;
    }
  }

  #keep(number: number, window: Uint8Array): void {
    this.#windows.delete(number);
    this.#windows.set(number, window);
  }
}
