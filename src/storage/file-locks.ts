import * as fs from 'node:fs';

/**
 * QEMU takes shared locks on single bytes of an image it has open: 100 + n for a permission it uses,
 * 200 + n for one it does not share (0 read, 1 write, 2 write unchanged, 3 resize).
 */
const USED_WRITE = 101;
const USED_RESIZE = 103;
const UNSHARED_READ = 200;
const UNSHARED_WRITE = 201;
const UNSHARED_RESIZE = 203;

const LOCKS = '/proc/locks';

const FORBID_READING = [USED_WRITE, USED_RESIZE, UNSHARED_READ];
const FORBID_WRITING = [...FORBID_READING, UNSHARED_WRITE, UNSHARED_RESIZE];

/**
 * Whether another program holds a lock on the file that forbids reading (or writing) it. Linux only,
 * by what /proc/locks shows; elsewhere nothing is known and the answer is no.
 */
export function isLocked(stat: fs.BigIntStats, forWriting: boolean): boolean {
  const bytes = forWriting ? FORBID_WRITING : FORBID_READING;
  const wanted = `${device(stat.dev)}:${stat.ino}`;
  return heldLocks().some(
    ({ file, start, end }) => file === wanted && bytes.some((byte) => byte >= start && byte <= end),
  );
}

/**
 * Begins what the first look into /proc/locks in a while waits for: the system stops all locking of
 * files, which takes it 7 to 15 ms, and then is prepared for some more looks. A program calls this as
 * soon as it knows that it will open files, and loads its modules meanwhile.
 */
export function prepareLockCheck(): void {
  let fd: number;
  try {
    // Not fs.open, whose answer would wait for the modules that are being loaded.
    fd = fs.openSync(LOCKS, 'r');
  } catch {
    return;
  }
  fs.read(fd, () => fs.close(fd));
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
