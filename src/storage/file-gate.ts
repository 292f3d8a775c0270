import * as fs from 'node:fs';
import * as path from 'node:path';
import { type FileOptions, FileStorage, ioError } from './file.ts';

/** Which files on disk an image may name. */
export interface FolderGate {
  /** Real paths of the folders whose trees are open; `any` opens all regular files. */
  readonly roots: readonly string[] | 'any';
}

/**
 * The gate for an image at `imagePath`: its own folder's tree, and what the caller adds.
 * @param imagePath undefined: it is in no folder
 */
export function folderGate(
  imagePath: string | undefined,
  allow: readonly string[] | 'any' = [],
): FolderGate {
  if (allow === 'any') return { roots: 'any' };
  const own = imagePath === undefined ? [] : [path.dirname(realPath(imagePath))];
  return { roots: [...own, ...allow.map(realPath)] };
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
  const start = path.isAbsolute(name) ? '/' : realPath(folder === '' ? '.' : folder);
  const real = resolveInside(start, name, gate.roots);
  // Safe to ask now, and right where the walk was too kind: `file/../other`.
  if (real === null || realPath(wanted) !== real) return null;
  const storage = new FileStorage(wanted, { ...options, realPath: real });
  if (openedElsewhere(storage, real)) {
    storage.close();
    return null;
  }
  return storage;
}

/** Symbolic links followed in one name; the limit of Linux. */
const MAX_LINKS = 40;

/**
 * Where a name really leads from a folder, if that is inside the roots; null if not. Walks it as the
 * kernel does, but asks nothing about a place that is neither in a root nor on the way to one, except
 * whether it is a symbolic link that leads back: what exists elsewhere never shows. A path that does
 * not exist is told like any other.
 */
function resolveInside(start: string, wanted: string, roots: readonly string[]): string | null {
  const left = wanted.split('/').reverse();
  let at = start;
  for (let links = 0; left.length > 0; ) {
    const name = left.pop();
    if (name === undefined || name === '' || name === '.') continue;
    const next = name === '..' ? path.dirname(at) : path.join(at, name);
    const target = name === '..' ? undefined : linkTarget(next);
    if (target !== undefined) {
      if (++links > MAX_LINKS) return null;
      left.push(...target.split('/').reverse());
      if (target.startsWith('/')) at = '/';
    } else if (!inside(next, roots) && !leadsToRoot(next, roots)) return null;
    else at = next;
  }
  return inside(at, roots) ? at : null;
}

function inside(file: string, roots: readonly string[]): boolean {
  return roots.some((root) => file.startsWith(asFolder(root)));
}

/** Whether it is a root or a folder above one. */
function leadsToRoot(folder: string, roots: readonly string[]): boolean {
  return roots.some((root) => asFolder(root).startsWith(asFolder(folder)));
}

function asFolder(name: string): string {
  return name.endsWith('/') ? name : `${name}/`;
}

/** Text of a symbolic link; undefined for anything else, also for nothing. */
function linkTarget(name: string): string | undefined {
  try {
    return fs.readlinkSync(name);
  } catch {
    return undefined;
  }
}

/** True if the path was exchanged between judging and opening. */
function openedElsewhere(storage: FileStorage, real: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${storage.fd}`) !== real;
  } catch {
    // No /proc: the path must still be free of links, and lead to what was opened.
    const stat = fs.lstatSync(real, { bigint: true, throwIfNoEntry: false });
    const same = stat !== undefined && `${stat.dev}:${stat.ino}` === storage.identity;
    return !same || fs.realpathSync.native(real) !== real;
  }
}
