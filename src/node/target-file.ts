import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { FileStorage, ioError } from '../storage/file.ts';

/**
 * A file that appears under its name only when it is whole: written beside it, synced, renamed. Until
 * `commit` whatever had the name stays as it is.
 */
export class TargetFile {
  readonly path: string;
  /** Name while it is being written; other threads open it by this. */
  readonly partialPath: string;
  readonly storage: FileStorage;
  /** Where the name really leads, when it is a symbolic link. */
  readonly #realPath: string;
  #settled = false;

  /** @throws Qcow2Error NOT_FOUND or IO (folder), REFUSED if the name belongs to no regular file */
  constructor(file: string) {
    this.path = file;
    this.#realPath = realTarget(file);
    const folder = path.dirname(this.#realPath);
    this.partialPath = path.join(folder, `.qcow2-${randomBytes(6).toString('hex')}.partial`);
    try {
      this.storage = new FileStorage(this.partialPath, { mode: 'create', sync: true });
    } catch (error) {
      const cause = error instanceof Error ? error.cause : error;
      throw ioError(cause, `Could not create '${file}'`, file);
    }
  }

  /** Makes the contents durable, then the name. */
  async commit(): Promise<void> {
    try {
      await this.storage.flush();
      const existing = fs.statSync(this.#realPath, { throwIfNoEntry: false });
      if (existing) fs.fchmodSync(this.storage.fd, existing.mode & 0o7777);
      fs.renameSync(this.partialPath, this.#realPath);
      this.#settled = true;
      syncFolder(path.dirname(this.#realPath));
    } catch (error) {
      if (error instanceof Qcow2Error) throw error;
      throw ioError(error, `Could not create '${this.path}'`, this.path);
    } finally {
      this.abandon();
    }
  }

  /** Removes what was written; nothing after `commit`. */
  abandon(): void {
    this.storage.close();
    if (this.#settled) return;
    this.#settled = true;
    fs.rmSync(this.partialPath, { force: true });
  }
}

function realTarget(file: string): string {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return danglingTarget(file);
  if (!stat.isFile()) {
    const what = stat.isDirectory() ? 'a directory' : 'not a regular file';
    throw new Qcow2Error('REFUSED', `Could not create '${file}': it is ${what}`, { file });
  }
  return fs.realpathSync.native(file);
}

/** A symbolic link to nowhere is replaced at its end, as `open` would create it. */
function danglingTarget(file: string): string {
  const link = fs.lstatSync(file, { throwIfNoEntry: false });
  if (!link?.isSymbolicLink()) return file;
  return path.resolve(path.dirname(file), fs.readlinkSync(file));
}

function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(fd);
  } catch {
    // Some file systems cannot sync a folder; the rename is as durable as they make it.
  } finally {
    fs.closeSync(fd);
  }
}
