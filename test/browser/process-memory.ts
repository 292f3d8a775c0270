import { readdirSync, readFileSync } from 'node:fs';

const STEP_MILLISECONDS = 50;

/** The most memory that the programs this process has started take, while `work` runs, and before it. */
export async function peakMemory<T>(
  work: () => Promise<T>,
): Promise<{ before: number; peak: number; result: T }> {
  const before = residentBytes();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes());
  }, STEP_MILLISECONDS);
  try {
    const result = await work();
    return { before, peak, result };
  } finally {
    clearInterval(timer);
  }
}

/** Bytes of memory that is not shared with files, of all descendants of this process. */
function residentBytes(): number {
  const parents = new Map<number, number>();
  const bytes = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = statusOf(name);
    parents.set(Number(name), Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? 0));
    bytes.set(Number(name), Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024);
  }
  const isOurs = (pid: number): boolean => {
    for (let at = parents.get(pid) ?? 0; at > 1; at = parents.get(at) ?? 0)
      if (at === process.pid) return true;
    return false;
  };
  let sum = 0;
  for (const [pid, own] of bytes) if (isOurs(pid)) sum += own;
  return sum;
}

/** Processes end at any time. */
function statusOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
}
