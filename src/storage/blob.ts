import { Qcow2Error } from '../errors.ts';
import { BlobWindow, readWhole } from './blob-window.ts';
import type { Storage } from './storage.ts';

/** Bytes read at once where a file is read on: asking a browser for a part costs more than copying it. */
const WINDOW = 4 * 1024 * 1024;

/** So many reads in a row are no accident. */
const ROW = 2;

/**
 * A `Blob`, or a `File` a person picked in a browser; read-only. What is read here and there is read
 * as it is asked for; where reading goes on, 4 MiB at a time, and as many ahead. A `Blob` is taken for it
 * wherever an image is opened; this gives it a name of its own for messages.
 * @example
 * import { BlobStorage, Image } from 'qcow2';
 *
 * const blob = new Blob([new Uint8Array(1024)]);
 * const image = await Image.open(new BlobStorage(blob, 'upload.raw'));
 * console.log(image.format, image.virtualSize); // raw 1024
 */
export class BlobStorage implements Storage {
  readonly size: number;
  readonly name: string;
  readonly #blob: Blob;
  /** The windows read last, by number: the one that is read from, and the one ahead of it. */
  readonly #windows = new Map<number, BlobWindow>();
  /** Memory of windows that are not read any more. */
  readonly #free: ArrayBuffer[] = [];
  /** Where the last read ended, and how many before it each went on where another had ended. */
  #reached = Number.NEGATIVE_INFINITY;
  #row = 0;

  /** @param name for messages; default the name of a `File` */
  constructor(blob: Blob, name?: string) {
    this.#blob = blob;
    this.size = blob.size;
    this.name = name ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'blob');
  }

  /** @throws Qcow2Error IO: the file behind it was changed or is gone */
  async read(offset: number, into: Uint8Array): Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    const follows = offset >= this.#reached && offset - this.#reached < WINDOW / 4;
    this.#row = follows ? this.#row + 1 : 0;
    this.#reached = offset + length;
    for (let at = 0; at < length; ) {
      const position = offset + at;
      const window = Math.floor(position / WINDOW);
      const from = position - window * WINDOW;
      const count = Math.min(length - at, WINDOW - from);
      const part = into.subarray(at, at + count);
      const isWhole = count === WINDOW && !this.#windows.has(window);
      if (!isWhole && (this.#row >= ROW || this.#windows.has(window)))
        await this.#try(position, () => this.#window(window).copy(from, part));
      else await this.#try(position, () => this.#part(position, part));
      at += count;
    }
    return length;
  }

  close(): void {
    this.#windows.clear();
    this.#free.length = 0;
  }

  /** A window, from memory if it is there; the next one is on its way then. */
  #window(number: number): BlobWindow {
    for (const [other, window] of this.#windows)
      if (other !== number && other !== number + 1) {
        this.#windows.delete(other);
        window.drop();
      }
    const wanted = this.#begin(number);
    // A failure is told to whom reads that window.
    if ((number + 1) * WINDOW < this.size) this.#begin(number + 1).bytes.catch(() => undefined);
    return wanted;
  }

  #begin(number: number): BlobWindow {
    let window = this.#windows.get(number);
    if (window === undefined) {
      const start = number * WINDOW;
      const end = Math.min(start + WINDOW, this.size);
      window = new BlobWindow(this.#blob.slice(start, end), end - start, this.#free, WINDOW);
      this.#windows.set(number, window);
    }
    return window;
  }

  async #part(offset: number, into: Uint8Array): Promise<void> {
    const part = this.#blob.slice(offset, offset + into.length);
    into.set(await readWhole(part, into.length));
  }

  async #try(offset: number, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `Could not read '${this.name}' at offset ${offset}: ${why}`;
      throw new Qcow2Error('IO', text, { file: this.name, offset }, { cause });
    }
  }
}
