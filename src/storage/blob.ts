import { Qcow2Error } from '../errors.ts';
import type { Storage } from './storage.ts';

/**
 * A `Blob`, or a `File` a person picked in a browser; read-only, nothing is loaded ahead. A `Blob` is
 * taken for it wherever an image is opened; this gives it a name of its own for messages.
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

  /** @param name for messages; default the name of a `File` */
  constructor(blob: Blob, name?: string) {
    this.#blob = blob;
    this.size = blob.size;
    this.name = name ?? ('name' in blob && typeof blob.name === 'string' ? blob.name : 'blob');
  }

  /** @throws Qcow2Error IO: the file behind it was changed or is gone */
  async read(offset: number, into: Uint8Array): Promise<number> {
    const part = await this.#part(offset, offset + into.length);
    into.set(new Uint8Array(part));
    return part.byteLength;
  }

  close(): void {}

  async #part(start: number, end: number): Promise<ArrayBuffer> {
    try {
      return await this.#blob.slice(start, end).arrayBuffer();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `Could not read '${this.name}' at offset ${start}: ${why}`;
      throw new Qcow2Error('IO', text, { file: this.name, offset: start }, { cause });
    }
  }
}
