import { Qcow2Error } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import type { Preallocation } from './new-image.ts';
import { preallocateSpace, type Step } from './preallocation.ts';
import type { RawLayer } from './raw-layer.ts';
import { SyncedFile } from './synced-file.ts';
import type { WritableDisk } from './writable-disk.ts';
import { requireTruncate } from './write-gate.ts';

const ZEROS = new Uint8Array(1 << 20);

/** A raw image that is being changed: every byte has its place. */
export class WritableRaw implements WritableDisk {
  readonly #file: SyncedFile;
  readonly #layer: RawLayer;

  constructor(storage: Storage, layer: RawLayer) {
    this.#file = new SyncedFile(storage);
    this.#layer = layer;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.#layer.forget();
    await this.#file.write(offset, bytes);
  }

  async writeZeroes(offset: number, length: number, unmap: boolean): Promise<void> {
    this.#layer.forget();
    const end = Math.min(offset + length, this.#file.size);
    if (end <= offset) return;
    if (unmap && (await this.#file.punchHole(offset, end - offset))) return;
    for (let at = offset; at < end; at += ZEROS.length)
      await this.#file.write(at, ZEROS.subarray(0, end - at));
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#layer.forget();
    const end = Math.min(offset + length, this.#file.size);
    if (end > offset) await this.#file.punchHole(offset, end - offset);
  }

  /** @throws Qcow2Error INVALID_ARGUMENT: it has no metadata to preallocate; IO: the length is as before */
  async resize(size: number, preallocation: Preallocation, step: Step): Promise<void> {
    requireTruncate(this.#file.storage);
    if (preallocation === 'metadata')
      throw new Qcow2Error('INVALID_ARGUMENT', 'Unsupported preallocation mode: metadata');
    const before = this.#file.size;
    try {
      await this.#file.truncate(size);
      await preallocateSpace(this.#file.storage, before, size, preallocation, step);
      await this.#file.sync();
    } catch (error) {
      if (size > before) await this.#file.truncate(before);
      throw error;
    } finally {
      this.#layer.resized();
    }
  }

  flush(): Promise<void> {
    return this.#file.sync();
  }

  finish(): Promise<void> {
    return this.#file.sync();
  }
}
