import { createRequire } from 'node:module';
import type { Extent } from './storage.ts';

/**
 * System calls Node does not offer, through the optional `koffi` package. Without it (or off Linux)
 * every function falls back to what is always right and only slower.
 */
interface Calls {
  lseek(fd: number, offset: number, whence: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  ioctl(fd: number, request: number, type: 'void *', argument: BigInt64Array): number;
  fcntl(fd: number, command: number, type: 'void *', argument: BigInt64Array): number;
  fcntl(fd: number, command: number, type: 'int', argument: number): number;
  errno(): number;
}

/** Processors whose structures and numbers are those used here; off_t is 64 bits wide on each. */
const KNOWN_PROCESSORS = ['x64', 'arm64', 'riscv64', 'loong64', 's390x'];

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;

let loaded: Calls | null | undefined;

function calls(): Calls | null {
  if (loaded !== undefined) return loaded;
  loaded = null;
  if (process.platform !== 'linux' || !KNOWN_PROCESSORS.includes(process.arch)) return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi');
    const libc = koffi.load('libc.so.6');
    const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
    const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
    const ioctl = libc.func('int ioctl(int fd, unsigned long request, ...)');
    const fcntl = libc.func('int fcntl(int fd, int command, ...)');
    loaded = { lseek, fallocate, ioctl, fcntl, errno: () => koffi.errno() };
  } catch {
    // Not installed, or another C library: the caller treats everything as data.
  }
  return loaded;
}

/** Whether the calls are there, without loading them, which takes some milliseconds. */
export function hasSystemCalls(): boolean {
  if (loaded !== undefined) return loaded !== null;
  if (process.platform !== 'linux' || !KNOWN_PROCESSORS.includes(process.arch)) return false;
  try {
    createRequire(import.meta.url).resolve('koffi');
    return true;
  } catch {
    return false;
  }
}

/** Extents told at once: memory does not follow the file, which may be fragmented at will. */
const MAX_EXTENTS = 8192;

/**
 * Data and holes of `[offset, offset + length)`, in bytes, or of its first part where there are very
 * many; one data extent where it cannot tell.
 */
export function fileExtents(fd: number, offset: number, length: number): Extent[] {
  const libc = calls();
  const whole = [{ offset, length, data: true }];
  if (libc === null || length <= 0) return length <= 0 ? [] : whole;
  const extents: Extent[] = [];
  const end = offset + length;
  for (let position = offset; position < end && extents.length < MAX_EXTENTS; ) {
    const data = libc.lseek(fd, position, SEEK_DATA);
    if (data < 0 && libc.errno() !== ENXIO) return whole;
    const holeEnd = data < 0 ? end : Math.min(data, end);
    if (holeEnd > position)
      extents.push({ offset: position, length: holeEnd - position, data: false });
    if (holeEnd >= end) break;
    const hole = libc.lseek(fd, holeEnd, SEEK_HOLE);
    const dataEnd = hole < 0 ? end : Math.min(hole, end);
    extents.push({ offset: holeEnd, length: dataEnd - holeEnd, data: true });
    position = dataEnd;
  }
  return extents;
}

/** Reserves space for a range, in bytes, growing the file if need be; false where it cannot. */
export function allocateRange(fd: number, offset: number, length: number): boolean {
  const libc = calls();
  return libc !== null && libc.fallocate(fd, 0, offset, length) === 0;
}

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Makes a range zeros and frees its blocks, leaving the length as it is; false where it cannot. */
export function punchRange(fd: number, offset: number, length: number): boolean {
  const libc = calls();
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return libc !== null && libc.fallocate(fd, mode, offset, length) === 0;
}

const FICLONERANGE = 0x4020940d;

/**
 * Makes a range of one file share the blocks of another one's (a reflink), as btrfs and xfs can: no
 * data is copied until one of them is written. Where the ranges begin and end must suit the blocks of the
 * file system; only the end of the source need not. False where it cannot, and nothing has changed.
 */
export function cloneRange(
  from: number,
  fromOffset: number,
  length: number,
  to: number,
  toOffset: number,
): boolean {
  const libc = calls();
  if (libc === null || length <= 0) return false;
  // struct file_clone_range: source descriptor, source offset, length, target offset.
  const range = BigInt64Array.of(
    BigInt(from),
    BigInt(fromOffset),
    BigInt(length),
    BigInt(toOffset),
  );
  return libc.ioctl(to, FICLONERANGE, 'void *', range) === 0;
}

const F_SETPIPE_SZ = 1031;

/** What a user without privileges may give a pipe. */
const PIPE_BYTES = 2 ** 20;

/** Has a pipe hold more than the usual 64 KiB, so that both ends wait less often, where that can be done. */
export function growPipe(fd: number): void {
  calls()?.fcntl(fd, F_SETPIPE_SZ, 'int', PIPE_BYTES);
}

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/**
 * Takes shared locks on single bytes of an open file, in the name of its descriptor: they go when it is
 * closed, also by a crash. False, and it has none, where the system or the file system cannot.
 */
export function lockBytes(fd: number, bytes: readonly number[]): boolean {
  const done = bytes.every((byte) => byteLock(fd, F_OFD_SETLK, F_RDLCK, byte) !== undefined);
  if (!done) for (const byte of bytes) byteLock(fd, F_OFD_SETLK, F_UNLCK, byte);
  return done;
}

/** Whether another descriptor, of this process or any other, has a lock of any kind on a byte. */
export function isByteLocked(fd: number, byte: number): boolean {
  const found = byteLock(fd, F_OFD_GETLK, F_WRLCK, byte);
  return found !== undefined && found !== F_UNLCK;
}

/** Asks for a lock on one byte; the type the system answers with, undefined if it refuses. */
function byteLock(fd: number, command: number, type: number, byte: number): number | undefined {
  const libc = calls();
  if (libc === null) return undefined;
  // struct flock: type and whence (16 bits each), start, length, process (0 with these commands).
  const lock = BigInt64Array.of(0n, BigInt(byte), 1n, 0n);
  const types = new Int16Array(lock.buffer);
  types[0] = type;
  return libc.fcntl(fd, command, 'void *', lock) === 0 ? types[0] : undefined;
}
