import { Qcow2Error } from '../errors.ts';
import type { MaybePromise, Storage } from '../storage/storage.ts';

const ZEROS = new Uint8Array(1 << 16);

/**
 * A file that is being changed, and what of it is known to be durable. A sync that failed is final: the
 * system reports lost writes once only, so everything after it is refused with the same error.
 */
export class SyncedFile {
  readonly storage: Storage;
  #isSynced = true;
  #failure: unknown;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  /** Length in bytes. */
  get size(): number {
    return this.storage.size;
  }

  /** Whether everything written so far is durable. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Refuses all writing from here on. */
  fail(error: unknown): void {
    this.#failure ??= error;
  }

  /** @throws what `fail` was told, or a sync before */
  requireSound(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  write(offset: number, bytes: Uint8Array): MaybePromise<void> {
    this.requireSound();
    this.#isSynced = false;
    return this.storage.write!(offset, bytes);
  }

  /** Makes a range zeros and gives its space back; false where the storage cannot. */
  async punchHole(offset: number, length: number): Promise<boolean> {
    this.requireSound();
    if (this.storage.punchHole === undefined) return false;
    this.#isSynced = false;
    await this.storage.punchHole(offset, length);
    return true;
  }

  /** Makes a range that lies in the file zeros, and gives its space back where the storage can. */
  async zero(offset: number, length: number): Promise<void> {
    if (await this.punchHole(offset, length)) return;
    const end = offset + length;
    for (let at = offset; at < end; at += ZEROS.length)
      await this.write(at, ZEROS.subarray(0, end - at));
  }

  /** Reserves space for a range, as zeros if it is behind the end; what it holds stays. */
  async allocate(offset: number, length: number): Promise<void> {
    this.requireSound();
    this.#isSynced = false;
    if (this.storage.allocate !== undefined) return this.storage.allocate(offset, length);
    const end = offset + length;
    for (let at = Math.max(offset, this.size); at < end; at += ZEROS.length)
      await this.write(at, ZEROS.subarray(0, end - at));
  }

  async truncate(size: number): Promise<void> {
    this.requireSound();
    this.#isSynced = false;
    await this.storage.truncate!(size);
  }

  /** Everything written so far is durable when this settles. */
  async sync(): Promise<void> {
    this.requireSound();
    if (this.#isSynced) return;
    try {
      await this.storage.flush?.();
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `'${this.storage.name}' could not be made durable, and takes no more writes: ${why}`;
      const details = cause instanceof Qcow2Error ? cause.details : {};
      this.fail(new Qcow2Error('IO', text, details, { cause }));
    }
    this.requireSound();
    this.#isSynced = true;
  }
}
