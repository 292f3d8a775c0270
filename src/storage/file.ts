import * as fs from 'node:fs';
import { Qcow2Error } from '../errors.ts';
import { lockedText, lockFile } from './file-locks.ts';
import { allocateRange, cloneRange, fileExtents, punchRange } from './file-system-calls.ts';
import type { Extent, Storage } from './storage.ts';

/** How to open a file. */
export interface FileOptions {
  /** `r` reads, `r+` reads and writes, `create` makes a new file and fails if there is one. */
  mode?: 'r' | 'r+' | 'create';
  /**
   * Blocking system calls: right in a worker or a command-line tool, where they are the fastest and
   * read straight into wasm memory. Without it the event loop stays free.
   */
  sync?: boolean;
  /** Open it although another program has it open for writing, and take no locks: see `lockFile`. */
  share?: boolean;
  /**
   * False: a short look in mode `r`, which keeps nobody from writing to the file meanwhile. Default
   * true: the file is locked until it is closed, where that is possible.
   */
  holdLocks?: boolean;
  /** False: `flush` waits for nothing, and a power cut may lose or reorder what was written. */
  durable?: boolean;
  /** Of a new file; default 0o644. Bits the process masks out stay off. */
  permissions?: number;
  /** Where it was really found; `path` stays the name for messages. */
  realPath?: string;
}

/** Whether a file was opened for writing without locks that others see. */
let isWritingUnlocked = false;

/**
 * Whether this thread has opened a file for writing that other programs do not see to be in use: the
 * system's calls are not to be had.
 */
export function writesWithoutLocks(): boolean {
  return isWritingUnlocked;
}

/** strerror texts of the errors people meet, as every Unix tool words them. */
const ERRNO_TEXT: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  EISDIR: 'Is a directory',
  ENOTDIR: 'Not a directory',
  EEXIST: 'File exists',
  ENOSPC: 'No space left on device',
  EFBIG: 'File too large',
  EROFS: 'Read-only file system',
  EIO: 'Input/output error',
  ELOOP: 'Too many levels of symbolic links',
  ENAMETOOLONG: 'File name too long',
  EMFILE: 'Too many open files',
  ENXIO: 'No such device or address',
  ETXTBSY: 'Text file busy',
  EDQUOT: 'Disk quota exceeded',
};

/** What the system says to an error, in its own words where they are known. */
export function errnoText(errno: string): string | undefined {
  return ERRNO_TEXT[errno];
}

/** Turns an error of node:fs into an `IO` error (`NOT_FOUND` for ENOENT) with the system's text. */
export function ioError(cause: unknown, what: string, file: string): Qcow2Error {
  const errno = (cause as NodeJS.ErrnoException).code ?? 'EIO';
  const text = ERRNO_TEXT[errno] ?? (cause instanceof Error ? cause.message : String(cause));
  const code = errno === 'ENOENT' ? 'NOT_FOUND' : 'IO';
  return new Qcow2Error(code, `${what}: ${text}`, { file, errno }, { cause });
}

const FLAGS = {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  r: fs.constants.O_RDONLY | fs.constants.O_NONBLOCK,
  'r+': fs.constants.O_RDWR | fs.constants.O_NONBLOCK,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
};

/**
 * A regular file on this machine.
 * @throws Qcow2Error NOT_FOUND, IO, or REFUSED for what is not a regular file
 * @example
 * import { create, FileStorage, Image } from 'qcow2';
 *
 * const storage = new FileStorage('new.raw', { mode: 'create' });
 * await create(storage, { format: 'raw', size: 1024 ** 2 });
 * await storage.flush();
 * const image = await Image.open(storage); // which owns it from here on
 * await image.close();
 */
export class FileStorage implements Storage {
  readonly name: string;
  readonly identity: string;
  readonly fd: number;
  readonly #sync: boolean;
  readonly #durable: boolean;
  #size: number;
  #closed = false;
  #flushing: Promise<void> | undefined;
  #flushFailure: unknown;
  /** Calls that other threads still do with the descriptor. */
  #busy = 0;

  constructor(path: string, options: FileOptions = {}) {
    this.name = path;
    this.#sync = options.sync ?? false;
    this.#durable = options.durable ?? true;
    const { permissions = 0o644 } = options;
    try {
      this.fd = fs.openSync(options.realPath ?? path, FLAGS[options.mode ?? 'r'], permissions);
    } catch (cause) {
      throw ioError(cause, `Could not open '${path}'`, path);
    }
    const stat = fs.fstatSync(this.fd, { bigint: true });
    if (!stat.isFile()) {
      fs.closeSync(this.fd);
      const what = stat.isDirectory() ? 'a directory' : 'not a regular file';
      throw new Qcow2Error('REFUSED', `Could not open '${path}': it is ${what}`, { file: path });
    }
    if (options.share !== true && options.mode !== 'create') this.#lock(stat, options);
    this.identity = `${stat.dev}:${stat.ino}`;
    // Asked when it is locked: who had it open before may have changed it until then.
    this.#size = fs.fstatSync(this.fd).size;
  }

  get size(): number {
    return this.#size;
  }

  /** @throws Qcow2Error REFUSED, and it is closed: another program has it open */
  #lock(stat: fs.BigIntStats, { mode = 'r', holdLocks = true }: FileOptions): void {
    const forWriting = mode === 'r+';
    const { conflict, isHeld } = lockFile(this.fd, stat, { forWriting, hold: holdLocks });
    if (conflict === undefined) {
      isWritingUnlocked ||= forWriting && !isHeld;
      return;
    }
    fs.closeSync(this.fd);
    const hint = forWriting ? '' : ', or read it as it is with -U';
    const text = `Could not open '${this.name}': ${lockedText(conflict, this.name)}${hint}`;
    throw new Qcow2Error('REFUSED', text, { file: this.name });
  }

  /** Bytes the file occupies on its file system. */
  get allocatedSize(): number {
    return fs.fstatSync(this.fd).blocks * 512;
  }

  read(offset: number, into: Uint8Array): number | Promise<number> {
    this.#requireOpen();
    return this.#sync ? this.#readSync(offset, into) : this.#readAsync(offset, into);
  }

  write(offset: number, from: Uint8Array): void | Promise<void> {
    this.#requireOpen();
    this.#size = Math.max(this.#size, offset + from.length);
    return this.#sync ? this.#writeSync(offset, from) : this.#writeAsync(offset, from);
  }

  truncate(size: number): void {
    this.#requireOpen();
    try {
      fs.ftruncateSync(this.fd, size);
    } catch (cause) {
      throw ioError(cause, `Could not resize '${this.name}' to ${size} bytes`, this.name);
    }
    this.#size = size;
  }

  /**
   * Starts writing to the disk what is in memory, beside whatever goes on: a later `flush` has less to
   * wait for, and reports what failed here.
   */
  beginFlush(): void {
    this.#requireOpen();
    if (!this.#durable) return;
    this.#flushing ??= this.#call<void>((done) => fs.fdatasync(this.fd, done))
      .catch((cause: unknown) => {
        this.#flushFailure ??= cause;
      })
      .finally(() => {
        this.#flushing = undefined;
      });
  }

  async flush(): Promise<void> {
    this.#requireOpen();
    if (!this.#durable) return;
    await this.#flushing;
    try {
      // The system reports a failed write once; what a flush under way was told counts.
      if (this.#flushFailure !== undefined) throw this.#flushFailure;
      if (this.#sync) fs.fdatasyncSync(this.fd);
      else await this.#call<void>((done) => fs.fdatasync(this.fd, done));
    } catch (cause) {
      throw ioError(cause, `Could not sync '${this.name}'`, this.name);
    }
  }

  allocate(offset: number, length: number): void {
    if (!allocateRange(this.fd, offset, length)) this.#writeZeros(offset, length);
    this.#size = Math.max(this.#size, offset + length);
  }

  /** Where the system cannot make a hole zeros are written. Ranges past the end stay past it. */
  punchHole(offset: number, length: number): void {
    this.#requireOpen();
    const inFile = Math.min(length, this.#size - offset);
    if (inFile <= 0 || punchRange(this.fd, offset, inFile)) return;
    this.#writeZeros(offset, inFile);
  }

  /** Shares blocks (a reflink) with a file of the same file system, where that can do it: btrfs, xfs. */
  copyRange(source: Storage, from: number, length: number, to: number): boolean {
    this.#requireOpen();
    if (!(source instanceof FileStorage) || from + length > source.size) return false;
    source.#requireOpen();
    if (!cloneRange(source.fd, from, length, this.fd, to)) return false;
    this.#size = Math.max(this.#size, to + length);
    return true;
  }

  extents(offset: number, length: number): Extent[] {
    this.#requireOpen();
    const asked = Math.min(length, this.#size - offset);
    if (asked <= 0) return [];
    const extents = fileExtents(this.fd, offset, asked);
    // Behind the end of a file that was cut off there seem to be holes: reading finds out.
    const isShorter = fs.fstatSync(this.fd).size < offset + asked;
    return isShorter ? [{ offset, length: asked, data: true }] : extents;
  }

  /** Calls under way still end; the descriptor is closed behind the last of them. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#busy === 0) fs.closeSync(this.fd);
  }

  /** The number of a closed descriptor soon belongs to another file. */
  #requireOpen(): void {
    if (this.#closed) throw new Qcow2Error('IO', `'${this.name}' is closed`, { file: this.name });
  }

  #readSync(offset: number, into: Uint8Array): number {
    let done = 0;
    try {
      while (done < into.length) {
        const n = fs.readSync(this.fd, into, done, into.length - done, offset + done);
        if (n === 0) break;
        done += n;
      }
    } catch (cause) {
      throw this.#failed(cause, 'read', offset + done);
    }
    return done;
  }

  async #readAsync(offset: number, into: Uint8Array): Promise<number> {
    let done = 0;
    try {
      while (done < into.length) {
        const left = into.length - done;
        const n = await this.#call<number>((cb) =>
          fs.read(this.fd, into, done, left, offset + done, cb),
        );
        if (n === 0) break;
        done += n;
      }
    } catch (cause) {
      throw this.#failed(cause, 'read', offset + done);
    }
    return done;
  }

  #writeSync(offset: number, from: Uint8Array): void {
    let done = 0;
    try {
      while (done < from.length)
        done += fs.writeSync(this.fd, from, done, from.length - done, offset + done);
    } catch (cause) {
      throw this.#failed(cause, 'write', offset + done);
    }
  }

  async #writeAsync(offset: number, from: Uint8Array): Promise<void> {
    let done = 0;
    try {
      while (done < from.length) {
        const left = from.length - done;
        done += await this.#call<number>((cb) =>
          fs.write(this.fd, from, done, left, offset + done, cb),
        );
      }
    } catch (cause) {
      throw this.#failed(cause, 'write', offset + done);
    }
  }

  /**
   * A call of node:fs with the descriptor, which stays open for it: its number would soon belong to
   * another file. fs.promises would need handles of its own.
   */
  async #call<T>(start: (done: (error: Error | null, value?: T) => void) => void): Promise<T> {
    this.#requireOpen();
    this.#busy++;
    try {
      return await new Promise<T>((resolve, reject) => {
        start((error, value) => (error ? reject(error) : resolve(value as T)));
      });
    } finally {
      this.#busy--;
      if (this.#closed && this.#busy === 0) fs.closeSync(this.fd);
    }
  }

  /** Where space cannot be reserved it is written; what is there must be zeros or nothing. */
  #writeZeros(offset: number, length: number): void {
    const zeros = new Uint8Array(Math.min(length, 1 << 20));
    for (let done = 0; done < length; done += zeros.length)
      this.#writeSync(offset + done, zeros.subarray(0, length - done));
  }

  #failed(cause: unknown, verb: string, offset: number): Qcow2Error {
    if (cause instanceof Qcow2Error) return cause;
    return ioError(cause, `Could not ${verb} '${this.name}' at offset ${offset}`, this.name);
  }
}
