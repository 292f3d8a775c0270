import { Qcow2Error } from '../errors.ts';
import type { Storage } from './storage.ts';

/** What is used of a `FileSystemWritableFileStream`. */
export interface WritableFileStream {
  write(chunk: { type: 'write'; position: number; data: Uint8Array<ArrayBuffer> }): Promise<void>;
  truncate(size: number): Promise<void>;
  close(): Promise<void>;
  abort(reason?: unknown): Promise<void>;
}

/**
 * The target of `create` and `convert` that is a file of the browser's File System API: one that was
 * picked with `showSaveFilePicker`, or one of the page's own (OPFS). It can be written only. What has
 * been written appears in the file with `close`, all at once; `abort` leaves the file as it was.
 * @example
 * import { create, StreamStorage } from 'qcow2';
 *
 * const folder = await navigator.storage.getDirectory();
 * const handle = await folder.getFileHandle('disk.img', { create: true });
 * const target = new StreamStorage(await handle.createWritable(), handle.name);
 * try {
 *   await create(target, { format: 'qcow2', size: 1024 ** 3 });
 *   await target.close();
 * } catch (error) {
 *   await target.abort();
 *   throw error;
 * }
 */
export class StreamStorage implements Storage {
  readonly name: string;
  readonly #stream: WritableFileStream;
  #size = 0;
  #closed = false;

  /** @param stream of an empty file, or without `keepExistingData` */
  constructor(stream: WritableFileStream, name = 'stream') {
    this.#stream = stream;
    this.name = name;
  }

  get size(): number {
    return this.#size;
  }

  /** @throws Qcow2Error REFUSED: open the file when it is written */
  read(): number {
    const text = `'${this.name}' is being written and cannot be read: open it when it is closed`;
    throw new Qcow2Error('REFUSED', text, { file: this.name });
  }

  /** @throws Qcow2Error IO: there is no room, for example */
  async write(offset: number, from: Uint8Array): Promise<void> {
    const data = from as Uint8Array<ArrayBuffer>;
    await this.#try('write', this.#stream.write({ type: 'write', position: offset, data }));
    this.#size = Math.max(this.#size, offset + from.length);
  }

  /** @throws Qcow2Error IO: there is no room, for example */
  async truncate(size: number): Promise<void> {
    await this.#try('resize', this.#stream.truncate(size));
    this.#size = size;
  }

  /** Puts what was written into the file. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#try('finish', this.#stream.close());
  }

  /** Drops what was written; nothing after `close`. */
  async abort(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#stream.abort();
  }

  async #try(verb: string, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `Could not ${verb} '${this.name}': ${why}`;
      throw new Qcow2Error('IO', text, { file: this.name }, { cause });
    }
  }
}
