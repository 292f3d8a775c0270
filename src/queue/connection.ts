import type { Redis, RedisOptions } from 'ioredis';
import { Qcow2Error } from '../errors.ts';
import { loadQueuePackages, type QueuePackages } from './packages.ts';

/** Milliseconds in which the server must be reached for the first time. */
const FIRST_CONTACT = 10_000;
/** Milliseconds between two attempts to reach it. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 2000;

/** Where a queue is. */
export interface QueueAddress {
  /** For messages: without user and password. */
  label: string;
  options: RedisOptions;
}

/** What becomes of a connection, as lines for people. */
export type Notice = (text: string) => void;

/**
 * Reads the URL of a queue: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, or `rediss://` for TLS.
 * @throws Qcow2Error INVALID_ARGUMENT, which does not show it: there may be a password in it
 */
export function queueAddress(text: string): QueueAddress {
  try {
    const url = new URL(text);
    const { protocol, hostname, port, pathname, search, hash } = url;
    const [, db] = /^\/?(\d{0,5})$/.exec(pathname) ?? [];
    const known = protocol === 'redis:' || protocol === 'rediss:';
    if (!known || hostname === '' || db === undefined || search !== '' || hash !== '')
      throw new Error('not the URL of a queue');
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const label = `${protocol}//${hostname}:${port || 6379}/${db || 0}`;
    const options: RedisOptions = { host, port: Number(port || 6379), db: Number(db) };
    if (url.username !== '') options.username = decodeURIComponent(url.username);
    if (url.password !== '') options.password = decodeURIComponent(url.password);
    if (protocol === 'rediss:') options.tls = {};
    return { label, options };
  } catch {
    throw new Qcow2Error(
      'INVALID_ARGUMENT',
      'the URL of the queue must be redis: or, for TLS, rediss: and //[USER:PASSWORD@]HOST[:PORT][/DB]; special characters of a password are written as %XX',
    );
  }
}

/** A connection to the server of a queue, which is made again whenever it is lost. */
export class QueueConnection {
  readonly packages: QueuePackages;
  readonly redis: Redis;
  readonly #label: string;
  readonly #deadline = performance.now() + FIRST_CONTACT;
  #state: 'connecting' | 'connected' | 'lost' | 'closed' = 'connecting';
  #problem = 'no answer';
  /** The server has answered, and refused. */
  #isRefused = false;

  private constructor({ label, options }: QueueAddress, packages: QueuePackages, notice: Notice) {
    this.packages = packages;
    this.#label = label;
    const all: Omit<RedisOptions, 'replyMapping'> = {
      ...options,
      lazyConnect: true,
      // As the queue needs it: commands wait until the server is back.
      maxRetriesPerRequest: null,
      retryStrategy: (times: number) => this.#pause(times),
    };
    this.redis = new packages.Redis(all);
    this.redis.on('error', (error: NodeJS.ErrnoException) => this.#failed(error));
    this.redis.on('close', () => {
      if (this.#state !== 'connected') return;
      this.#state = 'lost';
      notice(`the connection to ${label} is lost; trying again`);
    });
    this.redis.on('ready', () => {
      if (this.#state === 'lost') notice(`connected to ${label} again`);
      if (this.#state !== 'closed') this.#state = 'connected';
    });
  }

  /** @throws Qcow2Error NOT_FOUND: packages are not installed; IO: the server is out of reach, or refuses */
  static async open(address: QueueAddress, notice: Notice = () => {}): Promise<QueueConnection> {
    const connection = new QueueConnection(address, await loadQueuePackages(), notice);
    await connection.#connect();
    return connection;
  }

  get isLost(): boolean {
    return this.#state === 'lost';
  }

  /** Ends it, and every one that was made after its model. */
  close(): void {
    this.#state = 'closed';
    this.redis.disconnect();
  }

  async #connect(): Promise<void> {
    try {
      await this.redis.connect();
      await this.redis.ping();
    } catch (error) {
      if (!this.#isRefused && this.#problem === 'no answer') this.#failed(error as Error);
    }
    // A server that has no such database says so and goes on with another one.
    if (this.#state === 'connected' && !this.#isRefused) return;
    this.close();
    throw new Qcow2Error('IO', `Could not connect to the queue ${this.#label}: ${this.#problem}`);
  }

  #failed(error: NodeJS.ErrnoException): void {
    if (this.#isRefused) return;
    // Of several addresses that were tried each has an error of its own.
    const { errors = [error] } = error as { errors?: Error[] };
    this.#problem = errors.at(-1)?.message.split('\n')[0] ?? 'no answer';
    this.#isRefused = error.name === 'ReplyError';
  }

  #pause(times: number): number | null {
    if (this.#state === 'closed') return null;
    const isFirst = this.#state === 'connecting';
    if (isFirst && (this.#isRefused || performance.now() > this.#deadline)) return null;
    return Math.min(FIRST_PAUSE * times, LONGEST_PAUSE);
  }
}
