import type { Storage } from './storage.ts';

/** A `Blob` or `File` a person picked in a browser; read-only, nothing is loaded ahead. */
export class BlobStorage implements Storage {
  readonly size: number;
  readonly name: string;
  readonly #blob: Blob;

  constructor(blob: Blob) {
    this.#blob = blob;
    this.size = blob.size;
    this.name = 'name' in blob && typeof blob.name === 'string' ? blob.name : 'blob';
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    const part = await this.#blob.slice(offset, offset + into.length).arrayBuffer();
    into.set(new Uint8Array(part));
    return part.byteLength;
  }

  close(): void {}
}
