// Runs a command as a whole process and takes its wall time and peak memory.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** @returns {Promise<{ seconds: number, peakBytes: number }>} */
export function runProcess(command, args, cwd) {
  return new Promise((resolve, reject) => {
    const start = process.hrtime.bigint();
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'ignore', 'pipe'] });
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
      if (status === 0) resolve({ seconds, peakBytes });
      else reject(new Error(`${command} ${args.join(' ')}: exit status ${status}: ${stderr}`));
    });
  });
}

function peakOf(pid) {
  try {
    const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kib ?? 0) * 1024;
  } catch {
    return 0;
  }
}
