import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { FileStorage, ioError } from '../storage/file.ts';
import { lockedText, lockFile } from '../storage/file-locks.ts';
import { isHttpUrl, shownName } from '../storage/http-url.ts';

/** How a new file is written. */
export interface TargetFileOptions {
  /**
   * False leaves it to the system when a new file reaches the disk. What takes the place of another is
   * durable always: after a power cut there is the old one or the new one. Default true.
   */
  durable?: boolean | undefined;
  /** Letters and digits in the name of the file being written, by which leftovers are told apart. */
  partialTag?: string | undefined;
}

/** Beginning and end of the names of files being written. */
export const PARTIAL_PREFIX = '.qcow2-';
export const PARTIAL_SUFFIX = '.partial';

/**
 * A file that appears under its name only when it is whole: written beside it, sealed, renamed. Until
 * `publish` whatever had the name stays as it is.
 */
export class TargetFile {
  readonly path: string;
  /** Name while it is being written; other threads open it by this. */
  readonly partialPath: string;
  readonly storage: FileStorage;
  /** Where the name really leads, when it is a symbolic link. */
  readonly #realPath: string;
  /** The file that has the name so far, and the descriptor by which it is locked. */
  readonly #existing: fs.Stats | undefined;
  readonly #locked: number | undefined;
  readonly #mustLast: boolean;
  #settled = false;

  /**
   * @throws Qcow2Error NOT_FOUND or IO (folder), REFUSED if the name belongs to no regular file, or to one
   *   that a program has open
   */
  constructor(file: string, { durable = true, partialTag }: TargetFileOptions = {}) {
    if (isHttpUrl(file)) {
      const text = `Could not create '${shownName(file)}': URLs can only be read; name a file`;
      throw new Qcow2Error('REFUSED', text);
    }
    this.path = file;
    this.#realPath = realTarget(file);
    this.#existing = fs.statSync(this.#realPath, { throwIfNoEntry: false });
    this.#locked = this.#existing && lockExisting(this.#realPath, file);
    this.#mustLast = durable || this.#existing !== undefined;
    const folder = path.dirname(this.#realPath);
    // Nobody is harmed who guesses it: a file that is there is not opened. Loading node:crypto takes 3 ms.
    const unique = Math.random().toString(36).slice(2);
    const tag = partialTag === undefined ? '' : `${partialTag}-`;
    this.partialPath = path.join(folder, PARTIAL_PREFIX + tag + unique + PARTIAL_SUFFIX);
    try {
      this.storage = new FileStorage(file, {
        realPath: this.partialPath,
        mode: 'create',
        sync: true,
        // Nobody may read the copy who may not read what it replaces.
        permissions: this.#existing ? 0o600 | (this.#existing.mode & 0o066) : 0o644,
      });
    } catch (error) {
      this.#unlock();
      const cause = error instanceof Error ? error.cause : error;
      throw ioError(cause, `Could not create '${file}'`, file);
    }
  }

  /** Makes the contents durable and gives them the owner and permissions of what they replace. */
  async seal(): Promise<void> {
    try {
      if (this.#mustLast) await this.storage.flush();
      if (this.#existing) takeOver(this.storage.fd, this.#existing);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Gives what was sealed its name, as durably as its contents. */
  publish(): void {
    try {
      fs.renameSync(this.partialPath, this.#realPath);
    } catch (error) {
      throw this.#failed(error);
    }
    this.#settled = true;
    this.storage.close();
    this.#unlock();
    if (this.#mustLast) syncFolder(path.dirname(this.#realPath));
  }

  /** Takes back what `publish` did, unless it has replaced a file. */
  withdraw(): void {
    if (this.#existing === undefined) fs.rmSync(this.#realPath, { force: true });
  }

  /** Removes what was written; nothing after `publish`. */
  abandon(): void {
    this.storage.close();
    if (this.#settled) return;
    this.#settled = true;
    this.#unlock();
    fs.rmSync(this.partialPath, { force: true });
  }

  /** Once, when it is settled what has the name. */
  #unlock(): void {
    if (this.#locked !== undefined) fs.closeSync(this.#locked);
  }

  #failed(error: unknown): unknown {
    if (error instanceof Qcow2Error) return error;
    return ioError(error, `Could not create '${this.path}'`, this.path);
  }
}

/**
 * Locks the file that is to be replaced, as if it were written: nobody may have it open, or open it until
 * it has lost its name. Returns the descriptor that has the locks; one that may not be read is only
 * looked at.
 * @throws Qcow2Error REFUSED
 */
function lockExisting(realPath: string, file: string): number | undefined {
  let fd: number | undefined;
  try {
    fd = fs.openSync(realPath, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch {
    // What may not be read may still be replaced.
  }
  const stat = fs.statSync(realPath, { bigint: true });
  const { conflict } = lockFile(fd, stat, { forWriting: true, hold: true });
  if (conflict === undefined) return fd;
  if (fd !== undefined) fs.closeSync(fd);
  const text = `Could not create '${file}': ${lockedText(conflict, file)}`;
  throw new Qcow2Error('REFUSED', text, { file });
}

/** Symbolic links followed from the name to the file; the limit of Linux. */
const MAX_LINKS = 40;

/** Where the file is or, at the end of links that lead to nowhere, would be created by `open`. */
function realTarget(file: string): string {
  try {
    const stat = fs.statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) return endOfLinks(file);
    if (stat.isFile()) return fs.realpathSync.native(file);
    const what = stat.isDirectory() ? 'a directory' : 'not a regular file';
    throw new Qcow2Error('REFUSED', `Could not create '${file}': it is ${what}`, { file });
  } catch (error) {
    if (error instanceof Qcow2Error) throw error;
    throw ioError(error, `Could not create '${file}'`, file);
  }
}

function endOfLinks(file: string): string {
  let end = file;
  for (let links = 0; links < MAX_LINKS; links++) {
    if (!fs.lstatSync(end, { throwIfNoEntry: false })?.isSymbolicLink()) return end;
    const target = fs.readlinkSync(end);
    const folder = fs.realpathSync.native(path.dirname(end));
    end = path.isAbsolute(target) ? target : `${folder}/${target}`;
  }
  return end;
}

/** Who runs this may not be allowed to give files away; the permissions are what matters then. */
function takeOver(fd: number, existing: fs.Stats): void {
  const own = fs.fstatSync(fd);
  if (own.uid !== existing.uid || own.gid !== existing.gid) {
    try {
      fs.fchownSync(fd, existing.uid, existing.gid);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    }
  }
  fs.fchmodSync(fd, existing.mode & 0o7777);
}

/** As durable as the file system makes it: some cannot sync a folder, some folders cannot be read. */
function syncFolder(folder: string): void {
  let fd: number | undefined;
  try {
    fd = fs.openSync(folder, 'r');
    fs.fsyncSync(fd);
  } catch {
    // The name is there; nothing can be done about it.
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}
