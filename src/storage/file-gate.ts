import * as fs from 'node:fs';
import * as path from 'node:path';
import { type FileOptions, FileStorage, ioError } from './file.ts';

/** Which files on disk an image may name. */
export interface FolderGate {
  /** Real paths of the folders whose trees are open; `any` opens all regular files. */
  readonly roots: readonly string[] | 'any';
}

/** The gate for an image at `imagePath`: its own folder's tree, and what the caller adds. */
export function folderGate(imagePath: string, allow: readonly string[] | 'any' = []): FolderGate {
  if (allow === 'any') return { roots: 'any' };
  return { roots: [path.dirname(realPath(imagePath)), ...allow.map(realPath)] };
}

function realPath(name: string): string {
  try {
    return fs.realpathSync.native(name);
  } catch (cause) {
    throw ioError(cause, `Could not open '${name}'`, name);
  }
}

/**
 * Opens a file an image names, if the gate allows it; null if not. The judgement is made on the
 * real path and again on the opened descriptor, and never depends on whether a file outside the
 * roots exists.
 * @param namedBy path of the image; relative names are taken from its folder
 * @throws Qcow2Error NOT_FOUND, IO or REFUSED for a file inside the roots that cannot be opened
 */
export function openThroughGate(
  gate: FolderGate,
  name: string,
  namedBy: string,
  options: FileOptions,
): FileStorage | null {
  // Joined as the kernel would: `..` after a symlink is judged on the real path, not on the text.
  const folder = namedBy.slice(0, namedBy.lastIndexOf('/') + 1);
  const wanted = path.isAbsolute(name) ? name : folder + name;
  if (gate.roots === 'any') return new FileStorage(wanted, options);
  const real = realPathInside(wanted, gate.roots);
  if (real === null) return null;
  const storage = new FileStorage(wanted, { ...options, realPath: real });
  if (openedElsewhere(storage, real)) {
    storage.close();
    return null;
  }
  return storage;
}

function inside(file: string, roots: readonly string[]): boolean {
  return roots.some((root) => file.startsWith(root.endsWith('/') ? root : `${root}/`));
}

/** The real path if it is inside the roots; ENOENT is only told when no symlink was on the way. */
function realPathInside(wanted: string, roots: readonly string[]): string | null {
  let real: string;
  try {
    real = fs.realpathSync.native(wanted);
  } catch (cause) {
    if (leavesRoots(wanted, roots)) return null;
    throw ioError(cause, `Could not open '${wanted}'`, wanted);
  }
  return inside(real, roots) ? real : null;
}

/** Whether an unresolvable path leaves the roots, by its text or through a symlink on its way. */
function leavesRoots(wanted: string, roots: readonly string[]): boolean {
  const absolute = path.resolve(wanted);
  let folder = path.dirname(absolute);
  let rest = path.basename(absolute);
  while (folder !== path.dirname(folder)) {
    try {
      folder = fs.realpathSync.native(folder);
      break;
    } catch {
      rest = path.join(path.basename(folder), rest);
      folder = path.dirname(folder);
    }
  }
  if (!inside(path.join(folder, rest), roots)) return true;
  const next = path.join(folder, rest.split('/')[0] ?? rest);
  return fs.lstatSync(next, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

/** True if the path was exchanged between judging and opening. */
function openedElsewhere(storage: FileStorage, real: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${storage.fd}`) !== real;
  } catch {
    const stat = fs.statSync(real, { bigint: true, throwIfNoEntry: false });
    return stat === undefined || `${stat.dev}:${stat.ino}` !== storage.identity;
  }
}
