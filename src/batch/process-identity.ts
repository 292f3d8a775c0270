import * as fs from 'node:fs';

/** A process, told from a later one with the same number where the system says enough (Linux). */
export interface ProcessIdentity {
  pid: number;
  /** When the system was started, and when the process was; empty where that is not known. */
  began: string;
}

/** The one that asks. */
export function thisProcess(): ProcessIdentity {
  return { pid: process.pid, began: beganAt(process.pid) };
}

/** Whether a process runs on this machine. */
export function isRunning({ pid, began }: ProcessIdentity): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return beganAt(pid) === began;
}

function beganAt(pid: number): string {
  try {
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    // Behind the name, which may hold anything: state, then 18 numbers, then the time of the start.
    const [state, ...rest] = afterName(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
    // A process that has ended and was not yet taken note of.
    return state === 'Z' ? 'ended' : `${boot}:${rest[18]}`;
  } catch {
    return '';
  }
}

function afterName(stat: string): string[] {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}
