import * as fs from 'node:fs';
import { hasSystemCalls, isByteLocked, lockBytes } from './file-system-calls.ts';

/**
 * QEMU takes shared locks on single bytes of an image it has open: 100 + n for a permission it uses,
 * 200 + n for one it does not share with others (0 read, 1 write, 3 resize). Who opens a file takes its
 * locks first and then looks whether others have one that does not go with them: of two at most one
 * gets it.
 */
const USED_READ = 100;
const USED_WRITE = 101;
const USED_RESIZE = 103;
const UNSHARED_READ = 200;
const UNSHARED_WRITE = 201;
const UNSHARED_RESIZE = 203;

interface LockSet {
  /** Bytes it locks. */
  readonly own: readonly number[];
  /** Bytes nobody else may have locked, in the order they are told, and what could not be had then. */
  readonly conflicts: ReadonlyMap<number, string>;
}

/** The locks of one who only reads, as QEMU has them on images and on backing files. */
const READER: LockSet = {
  own: [USED_READ, UNSHARED_WRITE, UNSHARED_RESIZE],
  conflicts: new Map([
    [UNSHARED_READ, '"consistent read" lock'],
    [USED_WRITE, 'shared "write" lock'],
    [USED_RESIZE, 'shared "resize" lock'],
  ]),
};

const WRITER: LockSet = {
  own: [...READER.own, USED_WRITE, USED_RESIZE],
  conflicts: new Map([
    [UNSHARED_READ, '"consistent read" lock'],
    [UNSHARED_WRITE, '"write" lock'],
    [UNSHARED_RESIZE, '"resize" lock'],
    [USED_WRITE, 'shared "write" lock'],
    [USED_RESIZE, 'shared "resize" lock'],
  ]),
};

/** What a file is locked for. */
export interface LockRequest {
  /** Nobody else may have it open; else nobody may have it open for writing. */
  readonly forWriting: boolean;
  /** False: only look whether others have locked it, and keep nobody away. */
  readonly hold: boolean;
}

/** How an attempt to lock a file ended. */
export interface LockOutcome {
  /** The lock that could not be had since another program has the file open, as QEMU calls it. */
  readonly conflict: string | undefined;
  /** Whether it has locks now, which others see until the descriptor is closed. */
  readonly isHeld: boolean;
}

/**
 * Locks an open file as QEMU does; its locks go with the descriptor. Where the system's calls are not
 * to be had, or are not asked for, it only looks, by what /proc/locks shows of Linux; elsewhere nothing
 * is known and there is no conflict.
 * @param fd undefined: a file that may not be opened
 */
export function lockFile(
  fd: number | undefined,
  stat: fs.BigIntStats,
  { forWriting, hold }: LockRequest,
): LockOutcome {
  const { own, conflicts } = forWriting ? WRITER : READER;
  const isHeld = hold && fd !== undefined && lockBytes(fd, own);
  const bytes = [...conflicts.keys()];
  const byte = isHeld ? bytes.find((each) => isByteLocked(fd, each)) : listed(stat, bytes);
  return { conflict: byte === undefined ? undefined : conflicts.get(byte), isHeld };
}

/** What to say of a file that could not be locked, in QEMU's words, which scripts look for. */
export function lockedText(conflict: string, path: string): string {
  return `Failed to get ${conflict}: Is another process using the image [${path}]? Close it there first`;
}

const LOCKS = '/proc/locks';

/**
 * Begins what the first look into /proc/locks in a while waits for: the system stops all locking of
 * files, which takes it 7 to 15 ms, and then is prepared for some more looks. A program calls this as
 * soon as it knows that it will open files, and loads its modules meanwhile.
 * @param hold it will ask for locks to hold, and needs no look if it can have them
 */
export function prepareLockCheck(hold: boolean): void {
  if (hold && hasSystemCalls()) return;
  let fd: number;
  try {
    // Not fs.open, whose answer would wait for the modules that are being loaded.
    fd = fs.openSync(LOCKS, 'r');
  } catch {
    return;
  }
  fs.read(fd, () => fs.close(fd));
}

/** The first of these bytes of a file that any program has locked. */
function listed(stat: fs.BigIntStats, bytes: readonly number[]): number | undefined {
  const wanted = `${device(stat.dev)}:${stat.ino}`;
  const held = heldLocks().filter(({ file }) => file === wanted);
  return bytes.find((byte) => held.some(({ start, end }) => byte >= start && byte <= end));
}

interface HeldLock {
  /** MAJOR:MINOR:INODE */
  file: string;
  /** First and last byte. */
  start: number;
  end: number;
}

function heldLocks(): HeldLock[] {
  let text: string;
  try {
    text = fs.readFileSync(LOCKS, 'latin1');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    // "1: OFDLCK ADVISORY READ -1 08:01:131090 100 100"; a waiting one has "->" behind the number.
    const [, type, , , , file, start, end] = line.trim().split(/\s+/);
    if (type !== 'OFDLCK' || file === undefined) return [];
    return [{ file, start: Number(start), end: end === 'EOF' ? Infinity : Number(end) }];
  });
}

/** A device number as /proc/locks writes it. */
function device(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return [major, minor].map((n) => n.toString(16).padStart(2, '0')).join(':');
}
