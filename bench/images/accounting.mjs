// Who used the processors, from /proc.
import { readdirSync, readFileSync } from 'node:fs';

/** Of the counters in /proc, a second: the same on all Linux machines Node runs on. */
const TICKS = 100;
/** The process all kernel threads are children of. */
const KTHREADD = 2;
/** Of a run, in shares of its wall time and in seconds (what the counters' steps can make up). */
const FOREIGN_SHARE = 0.15;
const FOREIGN_SECONDS = 0.06;

/** Fields of /proc/PID/stat from the state on, which is the third of proc(5). */
function statOf(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Seconds that ended children of this process, and theirs, have used. */
export function childSeconds() {
  const fields = statOf('self');
  return { user: Number(fields[13]) / TICKS, system: Number(fields[14]) / TICKS };
}

/** Seconds of processors a process that runs has used. */
export function processSeconds(pid) {
  const fields = statOf(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Kernel threads write back and reclaim for those who are measured. */
function kernelSeconds() {
  let ticks = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const fields = statOf(name);
      if (Number(fields[1]) === KTHREADD) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It ended in between.
    }
  }
  return ticks / TICKS;
}

/** Seconds of all processors that somebody worked in, other machines on the same host included. */
function busySeconds() {
  const line = readFileSync('/proc/stat', 'utf8').split('\n')[0];
  const [user, nice, system, , , , , steal = 0] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user + nice + system + steal) / TICKS;
}

function ownSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Starts to watch the machine; the function returned tells what others used since, in seconds. */
export function watchOthers() {
  const start = { kernel: kernelSeconds(), own: ownSeconds(), busy: busySeconds() };
  return (measured) => {
    const busy = busySeconds() - start.busy;
    const own = ownSeconds() - start.own;
    return Math.max(0, busy - own - (kernelSeconds() - start.kernel) - measured);
  };
}

/** Whether others used so much that a run tells nothing. */
export function isDisturbed({ seconds, foreign }) {
  return foreign > seconds * FOREIGN_SHARE + FOREIGN_SECONDS;
}
