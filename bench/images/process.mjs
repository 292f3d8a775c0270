// Runs a command as a whole process and takes its wall time, processor time and peak memory.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { childSeconds, watchOthers } from './accounting.mjs';

/**
 * @typedef {object} Run
 * @property {number} seconds from start to exit
 * @property {number} user seconds of processors in the program
 * @property {number} system and in the kernel for it
 * @property {number} foreign seconds of processors that others used meanwhile
 * @property {number} peakBytes
 */

/** What Node is told by variables costs it time: 40 ms to read certificates (NODE_EXTRA_CA_CERTS). */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')),
);

/** @returns {Promise<Run>} */
export function runProcess(command, args, cwd) {
  return new Promise((resolve, reject) => {
    const before = childSeconds();
    const others = watchOthers();
    const start = process.hrtime.bigint();
    const child = spawn(command, args, {
      cwd,
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    let peakBytes = 0;
    // The kernel keeps the peak; it is lost when the process is reaped, so look at it while it runs.
    const look = () => {
      peakBytes = Math.max(peakBytes, peakOf(child.pid));
    };
    const timer = setInterval(look, 10);
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('exit', (status) => {
      const seconds = Number(process.hrtime.bigint() - start) / 1e9;
      clearInterval(timer);
      if (status !== 0) {
        reject(new Error(`${command} ${args.join(' ')}: exit status ${status}: ${stderr}`));
        return;
      }
      const after = childSeconds();
      const user = after.user - before.user;
      const system = after.system - before.system;
      resolve({ seconds, user, system, foreign: others(user + system), peakBytes });
    });
  });
}

/** Peak of a process that runs, in bytes. */
export function peakOf(pid) {
  try {
    const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kib ?? 0) * 1024;
  } catch {
    return 0;
  }
}
