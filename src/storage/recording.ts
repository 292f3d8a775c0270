import { Qcow2Error } from '../errors.ts';
import type { Extent, MaybePromise, Storage } from './storage.ts';

/** A call that changes what a file holds. Offsets and lengths are in bytes. */
export type StorageChange = {
  /** Name of the storage: several may share a log. */
  readonly file: string;
} & (
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'punchHole'; readonly offset: number; readonly length: number }
  | { readonly kind: 'allocate'; readonly offset: number; readonly length: number }
);

/** A flush that succeeded. */
export interface StorageFlush {
  readonly file: string;
  readonly kind: 'flush';
  /**
   * Changes of the file that stand before it in the log and that it does not promise: they had not
   * ended when it began, or began while it ran.
   */
  readonly pending: readonly StorageChange[];
}

/** An entry of a {@link StorageLog}. */
export type StorageEvent = StorageChange | StorageFlush;

/** Most bytes of writes a log keeps unless told otherwise. */
const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;

/**
 * What was done to storages, in order: changes as they begin, flushes as they end. Several storages
 * may share one, which then tells the order between them.
 * @example
 * import { RecordingStorage, MemoryStorage, StorageLog } from 'qcow2';
 *
 * const log = new StorageLog({ maxBytes: 1024 ** 2 });
 * const image = new RecordingStorage(new MemoryStorage(undefined, 'image'), log);
 * const data = new RecordingStorage(new MemoryStorage(undefined, 'data'), log);
 * await data.write(0, new Uint8Array(512));
 * await image.truncate(65536);
 * console.log(log.events.map(({ file, kind }) => `${file}: ${kind}`)); // data: write, image: truncate
 */
export class StorageLog {
  readonly #events: StorageEvent[] = [];
  readonly #maxBytes: number;
  #bytes = 0;

  /** @param options `maxBytes`: bytes of writes that are kept at most. Default 256 MiB */
  constructor(options: { maxBytes?: number } = {}) {
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  }

  get events(): readonly StorageEvent[] {
    return this.#events;
  }

  /** Forgets all events: what the storages hold now is the new start. */
  clear(): void {
    this.#events.length = 0;
    this.#bytes = 0;
  }

  /**
   * @throws Qcow2Error TOO_LARGE: the log would hold more bytes than allowed
   * @internal
   */
  add(event: StorageEvent): void {
    if (event.kind === 'write') {
      this.#bytes += event.bytes.length;
      if (this.#bytes > this.#maxBytes) {
        const text = `Cannot record a write of ${event.bytes.length} bytes to '${event.file}': the log keeps ${this.#maxBytes} bytes at most; give it more, or clear it`;
        throw new Qcow2Error('TOO_LARGE', text, { file: event.file, value: this.#maxBytes });
      }
    }
    this.#events.push(event);
  }
}

/**
 * Passes every call on to another storage and logs those that change it. From the log and a copy of
 * what the storage held before, every state can be made that a power cut could have left: each
 * change since the last flush may have reached the disk, or not.
 * @example
 * import { create, MemoryStorage, RecordingStorage } from 'qcow2';
 *
 * const storage = new RecordingStorage(new MemoryStorage());
 * await create(storage, { format: 'qcow2', size: 1024 ** 3 });
 * await storage.flush();
 * for (const event of storage.log.events) console.log(event.kind);
 */
export class RecordingStorage implements Storage {
  readonly name: string;
  readonly log: StorageLog;
  readonly identity?: string;
  readonly punchHole?: (offset: number, length: number) => MaybePromise<void>;
  readonly allocate?: (offset: number, length: number) => MaybePromise<void>;
  readonly extents?: (offset: number, length: number) => MaybePromise<Extent[]>;
  readonly #inner: Storage;
  /** Changes under way. */
  readonly #running = new Set<StorageChange>();

  /**
   * @param inner a storage with `write` and `truncate`
   * @param log one to share with other storages; default a new one
   * @throws Qcow2Error INVALID_ARGUMENT: the storage cannot be written to
   */
  constructor(inner: Storage, log: StorageLog = new StorageLog()) {
    this.name = inner.name ?? 'storage';
    if (!inner.write || !inner.truncate) {
      const text = `'${this.name}' cannot be written to: recording needs write and truncate`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { file: this.name });
    }
    this.#inner = inner;
    this.log = log;
    const { name: file } = this;
    if (inner.identity !== undefined) this.identity = inner.identity;
    if (inner.extents) this.extents = (offset, length) => inner.extents!(offset, length);
    if (inner.punchHole) {
      this.punchHole = (offset, length) =>
        this.#record({ file, kind: 'punchHole', offset, length }, () =>
          inner.punchHole!(offset, length),
        );
    }
    if (inner.allocate) {
      this.allocate = (offset, length) =>
        this.#record({ file, kind: 'allocate', offset, length }, () =>
          inner.allocate!(offset, length),
        );
    }
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, into: Uint8Array): MaybePromise<number> {
    return this.#inner.read(offset, into);
  }

  /** @throws Qcow2Error TOO_LARGE: the log is full; nothing was written */
  write(offset: number, from: Uint8Array): void | Promise<void> {
    const change: StorageChange = { file: this.name, kind: 'write', offset, bytes: from.slice() };
    return this.#record(change, () => this.#inner.write!(offset, from));
  }

  truncate(size: number): void | Promise<void> {
    const change: StorageChange = { file: this.name, kind: 'truncate', size };
    return this.#record(change, () => this.#inner.truncate!(size));
  }

  /** Logged when it has succeeded; a flush that fails promises nothing. */
  async flush(): Promise<void> {
    const pending = [...this.#running];
    const began = this.log.events.length;
    await this.#inner.flush?.();
    for (let i = began; i < this.log.events.length; i++) {
      const event = this.log.events[i]!;
      if (event.file === this.name && event.kind !== 'flush') pending.push(event);
    }
    this.log.add({ file: this.name, kind: 'flush', pending });
  }

  close(): MaybePromise<void> {
    return this.#inner.close();
  }

  /** Logs a change, then makes it: one that fails may have been made in part. */
  #record(change: StorageChange, make: () => MaybePromise<void>): void | Promise<void> {
    this.log.add(change);
    const pending = make();
    if (pending === undefined) return;
    this.#running.add(change);
    return pending.finally(() => this.#running.delete(change));
  }
}
