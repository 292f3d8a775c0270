import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BatchEvent } from '../../src/batch/events.ts';
import { type Ended, ended } from './support.ts';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Must be in no output, neither so nor as it is in a URL. */
export const PASSWORD = 's3:cr/et@';

const LASTING = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
const KEEPING = [...LASTING, '--requirepass', PASSWORD];

/** How a server is to be. */
export interface RedisOptions {
  /** Beside those that say where it is. */
  args?: readonly string[];
  /** For TLS only: the files of a certificate and its key. */
  tls?: { cert: string; key: string };
}

/** A Redis server of its own, whose state survives a restart. */
export class RedisServer {
  readonly port: number;
  readonly #folder: string;
  readonly #options: RedisOptions;
  #process: ChildProcess;

  private constructor(folder: string, port: number, options: RedisOptions) {
    this.#folder = folder;
    this.port = port;
    this.#options = options;
    this.#process = this.#spawn();
  }

  static async start(parent: string, options: RedisOptions = {}): Promise<RedisServer> {
    const folder = join(parent, 'redis');
    mkdirSync(folder);
    const server = new RedisServer(folder, await freePort(), options);
    await server.#ready();
    return server;
  }

  get url(): string {
    const scheme = this.#options.tls ? 'rediss' : 'redis';
    return `${scheme}://:${encodeURIComponent(PASSWORD)}@127.0.0.1:${this.port}/3`;
  }

  async restart(): Promise<void> {
    await this.stop();
    this.#process = this.#spawn();
    await this.#ready();
  }

  /** Without a chance to save anything. */
  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.#process.on('exit', resolve));
    if (this.#process.kill('SIGKILL')) await gone;
  }

  #spawn(): ChildProcess {
    const { args = KEEPING, tls } = this.#options;
    const place = ['--bind', '127.0.0.1', '--dir', this.#folder];
    if (tls === undefined) place.push('--port', String(this.port));
    else {
      place.push('--port', '0', '--tls-port', String(this.port), '--tls-auth-clients', 'no');
      place.push('--tls-cert-file', tls.cert, '--tls-key-file', tls.key);
    }
    return spawn('redis-server', [...place, ...args], { stdio: 'pipe' });
  }

  #ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      let text = '';
      this.#process.stdout?.on('data', (chunk) => {
        text += chunk;
        if (text.includes('Ready to accept connections')) resolve();
      });
      this.#process.on('exit', () => reject(new Error(`redis-server has ended: ${text}`)));
      this.#process.on('error', reject);
    });
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** A process of the command line, which takes the URL of its queue from the environment. */
export class Program {
  readonly child: ChildProcess;
  readonly end: Promise<Ended>;
  #stdout = '';
  readonly #listeners = new Set<() => void>();

  constructor(
    args: readonly string[],
    cwd: string,
    url: string,
    node: readonly string[] = [],
    variables: Readonly<Record<string, string>> = {},
  ) {
    const env = { ...process.env, QCOW2_QUEUE: url, ...variables };
    this.child = spawn(process.execPath, [...node, MAIN, ...args], { cwd, env, stdio: 'pipe' });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      for (const listener of this.#listeners) listener();
    });
    this.child.stderr?.setEncoding('utf8');
    this.end = ended(this.child);
  }

  /** The events of `--log=json` so far. */
  get events(): BatchEvent[] {
    const whole = this.#stdout.slice(0, this.#stdout.lastIndexOf('\n') + 1);
    return whole
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as BatchEvent);
  }

  /** Settles when there is such an event. */
  until(matches: (event: BatchEvent) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!this.events.some(matches)) return;
        this.#listeners.delete(look);
        resolve();
      };
      this.#listeners.add(look);
      look();
    });
  }
}
