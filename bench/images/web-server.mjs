// A web server on this machine for rows that read URLs: nginx, which sends files without copying them.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { folder } from '../data.mjs';
import { processSeconds } from './accounting.mjs';

/**
 * @typedef {object} WebServer
 * @property {string} origin
 * @property {() => number} seconds of processors it has used
 * @property {() => Promise<void>} close
 */

/** @returns {Promise<WebServer | undefined>} undefined after one line to `log` if there is no nginx */
export async function startWebServer(log) {
  const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
  if (spawnSync('nginx', ['-v'], { env: environment }).status !== 0) {
    log('no rows of URLs: nginx is not installed');
    return undefined;
  }
  const port = await freePort();
  const place = mkdtempSync(join(tmpdir(), 'bench-nginx-'));
  const file = join(place, 'nginx.conf');
  writeFileSync(file, configuration(port, place));
  const server = spawn('nginx', ['-c', file, '-e', 'stderr'], {
    env: environment,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const origin = `http://127.0.0.1:${port}`;
  await answers(origin, server);
  const seconds = () => workersOf(server.pid).reduce((sum, pid) => sum + processSeconds(pid), 0);
  const close = async () => {
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    await ended;
    rmSync(place, { recursive: true });
  };
  return { origin, seconds, close };
}

function configuration(port, place) {
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const paths = places.map((name) => `${name}_temp_path ${join(place, name)};`);
  // Its workers run as the user who starts it, who can read the images.
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  return `${user} daemon off; worker_processes 2; pid ${join(place, 'pid')}; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; ${paths.join(' ')}
  server { listen 127.0.0.1:${port}; root ${folder}; }
}
`;
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().on('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
      probe.close(() => resolve(port));
    });
  });
}

async function answers(origin, server) {
  for (let i = 0; server.exitCode === null && i < 100; i++) {
    try {
      await (await fetch(`${origin}/images-1`)).text();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error('nginx does not answer');
}

function workersOf(master) {
  const isWorker = (pid) => {
    try {
      return (
        readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === `${master}`
      );
    } catch {
      return false;
    }
  };
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isWorker(name));
}
