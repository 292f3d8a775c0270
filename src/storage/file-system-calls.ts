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
  errno(): number;
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;

let loaded: Calls | null | undefined;

function calls(): Calls | null {
  if (loaded !== undefined) return loaded;
  loaded = null;
  if (process.platform !== 'linux') return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi');
    const libc = koffi.load('libc.so.6');
    const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)');
    const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
    const ioctl = libc.func('int ioctl(int fd, unsigned long request, ...)');
    loaded = { lseek, fallocate, ioctl, errno: () => koffi.errno() };
  } catch {
    // Not installed, or another C library: the caller treats everything as data.
  }
  return loaded;
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
