import { Qcow2Error } from '../errors.ts';
import { IdleWatch, Slots } from './http-limits.ts';
import {
  fetchTransport,
  type HttpAnswer,
  type HttpRequest,
  type HttpTransport,
  PRIVATE_HEADERS,
} from './http-transport.ts';
import { type HttpAddress, isBelowUrl, parseUrlPrefix } from './http-url.ts';

/** How a file on a web server is asked for. */
export interface HttpRequestOptions {
  /** Headers of every request, a token for example. They are not shown in messages. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Ends all requests, and what waits for them, with an `ABORTED` error. */
  signal?: AbortSignal | undefined;
  /** How often a request that failed for a reason that may pass is made again. Default 4. */
  retries?: number | undefined;
  /** Milliseconds before the first repetition; each one after waits twice as long. Default 250. */
  retryDelay?: number | undefined;
  /** Milliseconds without a byte after which a request has failed. Default 30,000. */
  timeout?: number | undefined;
  /** Whether redirections are followed; default true. */
  redirects?: boolean | undefined;
  /**
   * URLs, each with all below it as a folder, that are all that is read: others are refused, and so are
   * redirections that lead elsewhere (`fetch` does not show where they lead: all of them). For services
   * that are told by others what to read. Absent: any.
   */
  allowedUrls?: readonly string[] | undefined;
  /**
   * Makes the requests; default `fetch`.
   * @internal
   */
  transport?: HttpTransport | undefined;
}

/** What the server says of the whole file; all answers must agree in it. */
export interface Version {
  size: number;
  etag: string | null;
  lastModified: string | null;
}

/** Bytes of the file in an answer; `size` is undefined where a page may not see the header. */
interface Part {
  start: number;
  end: number;
  size: number | undefined;
}

/** A failure that may pass. */
class Transient extends Error {
  /** Milliseconds the server wants to be left alone. */
  readonly pause: number;

  constructor(message: string, pause = 0, options?: ErrorOptions) {
    super(message, options);
    this.pause = pause;
  }
}

const TRANSIENT_STATUS = [408, 425, 429, 500, 502, 503, 504];
/** An address that a redirection led to may be good for a while only. */
const EXPIRED_STATUS = [401, 403, 404, 410];
/** Asking again right away does not help, if nothing has worked before. */
const FINAL_CAUSE =
  /^(ENOTFOUND|ECONNREFUSED|CERT_|ERR_TLS|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_SSL)/;
/** Requests at a time; more are not faster, and browsers have as many. */
const MOST_AT_A_TIME = 6;
/** Longest pause a server can ask for, in milliseconds. */
const MAX_PAUSE = 30_000;
/** Ranges of one file on a web server, all of the same version of it. */
export class HttpRanges {
  readonly name: string;
  /** Requests made so far. */
  requests = 0;
  readonly #address: HttpAddress;
  readonly #options: HttpRequestOptions;
  readonly #headers: ReadonlyMap<string, string>;
  readonly #redirects: HttpRequest['redirects'];
  readonly #active = new Set<AbortController>();
  readonly #onAbort = (): void => this.#stop();
  readonly #slots = new Slots(MOST_AT_A_TIME);
  /** Where redirections led to. */
  #target: string;
  #version: Version | undefined;
  #closed = false;

  /** @throws Qcow2Error REFUSED: the URL is not an allowed one; INVALID_ARGUMENT: an allowed one is none */
  constructor(address: HttpAddress, options: HttpRequestOptions) {
    this.name = address.name;
    this.#address = address;
    this.#options = options;
    const { redirects = true, allowedUrls } = options;
    const allowed = allowedUrls?.map(parseUrlPrefix);
    if (allowed && !isBelowUrl(address.url, allowed))
      throw this.#refused('it is not below a URL that may be read');
    this.#redirects = redirects && allowed ? (to) => isBelowUrl(to, allowed) : redirects;
    this.#target = address.url.href;
    const { authorization } = address;
    const own = authorization === undefined ? [] : ([['authorization', authorization]] as const);
    this.#headers = new Map([...own, ...fieldsOf(options.headers ?? {})]);
    options.signal?.addEventListener('abort', this.#onAbort);
  }

  /**
   * Asks for the first bytes, and with them for the length and version of the file.
   * @param into as many bytes as are wanted; fewer are filled if the file is shorter
   * @throws Qcow2Error NOT_FOUND, REFUSED: no ranges; IO, ABORTED
   */
  async open(into: Uint8Array): Promise<Version> {
    await this.#fill(0, into);
    return this.#version!;
  }

  /**
   * Fills `into` from `offset` on, which the file has.
   * @throws Qcow2Error IO: the file has changed, or cannot be read any more; ABORTED
   */
  fill(offset: number, into: Uint8Array): Promise<void> {
    return this.#fill(offset, into);
  }

  /** Ends requests under way. */
  close(): void {
    this.#closed = true;
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#stop();
  }

  #stop(): void {
    for (const controller of this.#active) controller.abort();
  }

  async #fill(offset: number, into: Uint8Array): Promise<void> {
    const { retries = 4, retryDelay = 250 } = this.#options;
    let done = 0;
    const received = (length: number): void => {
      done += length;
    };
    for (let failures = 0; done < this.#wanted(offset, into.length); ) {
      this.#requireGoingOn();
      try {
        await this.#request(offset + done, into.subarray(done), received);
      } catch (error) {
        this.#requireGoingOn();
        if (!(error instanceof Transient)) throw error;
        if (failures >= retries || this.#isFinal(error))
          throw this.#failed(error, offset + done, failures + 1);
        const pause = Math.max(error.pause, retryDelay * 2 ** failures++);
        await this.#pause(pause);
      }
    }
  }

  /** Bytes from `offset` on of `length` that the file has, as far as that is known. */
  #wanted(offset: number, length: number): number {
    return Math.min(length, (this.#version?.size ?? Number.POSITIVE_INFINITY) - offset);
  }

  /** Makes one request; what comes of it is passed on even if it fails behind. */
  async #request(
    offset: number,
    into: Uint8Array,
    received: (length: number) => void,
  ): Promise<void> {
    const { length } = into;
    const { timeout = 30_000 } = this.#options;
    await this.#slots.take();
    const controller = new AbortController();
    const watch = new IdleWatch(timeout, () => controller.abort());
    this.#active.add(controller);
    try {
      this.#requireGoingOn();
      const answer = await this.#send('GET', controller, `bytes=${offset}-${offset + length - 1}`);
      watch.touch();
      const part = await this.#partOf(answer, offset, length, controller);
      if (part !== undefined)
        await this.#receive(answer, into.subarray(0, part.end - part.start), watch, received);
      else controller.abort();
    } catch (error) {
      // Whatever is left of the answer is not wanted.
      controller.abort();
      if (error instanceof Qcow2Error || error instanceof Transient) throw error;
      const why = watch.fired ? `no byte came for ${timeout} ms` : reasonOf(error);
      throw new Transient(why, 0, { cause: error });
    } finally {
      watch.stop();
      this.#active.delete(controller);
      this.#slots.give();
    }
  }

  /** Receives a body that must have exactly the length it says. */
  async #receive(
    answer: HttpAnswer,
    into: Uint8Array,
    watch: IdleWatch,
    received: (length: number) => void,
  ): Promise<void> {
    let done = 0;
    await answer.receive(into, (length) => {
      watch.touch();
      done += length;
      if (done > into.length) throw this.#error('the server sends more than it was asked for');
      received(length);
    });
    if (done < into.length)
      throw new Transient(`the answer ends after ${done} of ${into.length} bytes`);
  }

  #send(method: 'GET' | 'HEAD', { signal }: AbortController, range?: string): Promise<HttpAnswer> {
    const { transport = fetchTransport } = this.#options;
    const redirects = this.#redirects;
    const headers = new Map(this.#headers);
    // Not If-Range: a page would have to ask for leave first. Each answer tells its version.
    if (range !== undefined) headers.set('range', range);
    if (this.#target !== this.#address.url.href && !this.#isOwnServer())
      for (const name of PRIVATE_HEADERS) headers.delete(name);
    this.requests++;
    return transport(this.#target, { method, headers, signal, redirects });
  }

  #isOwnServer(): boolean {
    return new URL(this.#target).origin === this.#address.url.origin;
  }

  /** What an answer holds of the file; undefined if there is nothing to be had. Checks all it says. */
  async #partOf(
    answer: HttpAnswer,
    offset: number,
    length: number,
    controller: AbortController,
  ): Promise<Part | undefined> {
    const { status } = answer;
    if (status >= 300 && status < 400)
      throw this.#refused('it is somewhere else (a redirection), which is not followed');
    const range = answer.header('content-range');
    if (status === 416) {
      if (range === 'bytes */0' && offset === 0) {
        this.#agree(answer, 0);
        return undefined;
      }
      throw this.#changed();
    }
    if (status !== 206) throw this.#unwanted(answer);
    const encoding = answer.header('content-encoding');
    if (encoding !== null && encoding !== 'identity')
      throw this.#refused(
        `the server encodes what it sends (${encoding}), and ranges are not of the file`,
      );
    const part = range === null ? undefined : parseContentRange(range);
    // A page sees this header of another origin only if that server says so.
    const isHidden = range === null && answer.hidesHeaders;
    if (part === undefined && !isHidden) {
      const said = range === null ? 'no Content-Range' : `Content-Range '${range}'`;
      throw this.#error(`the server answers with ${said}`);
    }
    const size = part?.size ?? this.#version?.size ?? (await this.#askSize(controller));
    this.#agree(answer, size);
    const end = Math.min(offset + length, size);
    const found = part ?? { start: offset, end, size };
    if (found.start === offset && found.end <= end && found.end > offset) return found;
    const text = `the server answers with bytes ${found.start} to ${found.end - 1} to a request for ${offset} to ${end - 1}`;
    throw this.#error(text);
  }

  /** The length of the file, where the answer does not show it. */
  async #askSize(controller: AbortController): Promise<number> {
    const { status, header } = await this.#send('HEAD', controller);
    const length = header('content-length');
    if (status === 200 && length !== null && /^\d+$/.test(length)) return Number(length);
    const text = `the server tells no length (status ${status} of HEAD); let it expose Content-Range`;
    throw this.#refused(text);
  }

  /** Takes the version from the first answer, and compares it with the others'. */
  #agree({ header, url }: HttpAnswer, size: number): void {
    const etag = header('etag');
    const lastModified = header('last-modified');
    if (!Number.isSafeInteger(size))
      throw this.#error(`its length of ${size} bytes is beyond the limit of 2^53 - 1`);
    this.#version ??= { size, etag, lastModified };
    const known = this.#version;
    if (known.size !== size || known.etag !== etag || known.lastModified !== lastModified)
      throw this.#changed();
    this.#target = url;
  }

  /** Why an answer that is no part of the file cannot be used. */
  #unwanted({ status, header }: HttpAnswer): Error {
    if (this.#target !== this.#address.url.href && EXPIRED_STATUS.includes(status)) {
      this.#target = this.#address.url.href;
      return new Transient(`status ${status}`);
    }
    if (TRANSIENT_STATUS.includes(status))
      return new Transient(`status ${status}`, pauseOf(header('retry-after')));
    if (status === 404 || status === 410)
      return new Qcow2Error('NOT_FOUND', `'${this.name}' is not on the server (status ${status})`, {
        file: this.name,
      });
    if (status === 401 || status === 403)
      return this.#error(`the server does not give it to us (status ${status})`);
    if (status >= 200 && status < 300)
      return this.#refused(
        `the server sends whole files only (status ${status}, not 206); download it first`,
      );
    return this.#error(`status ${status}`);
  }

  #isFinal({ cause }: Transient): boolean {
    return this.#version === undefined && FINAL_CAUSE.test(codeOf(cause) ?? '');
  }

  #requireGoingOn(): void {
    if (this.#options.signal?.aborted)
      throw new Qcow2Error('ABORTED', `reading '${this.name}' was aborted`);
    if (this.#closed) throw this.#error('it is closed');
  }

  /** Waits, but for `close` and the signal. */
  async #pause(milliseconds: number): Promise<void> {
    const controller = new AbortController();
    this.#active.add(controller);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      controller.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#active.delete(controller);
  }

  #failed(cause: Error, offset: number, times: number): Qcow2Error {
    const often = times === 1 ? '' : ` (${times} times)`;
    const text = `Could not read '${this.name}' at offset ${offset}: ${cause.message}${often}`;
    return new Qcow2Error('IO', text, { file: this.name, offset }, { cause });
  }

  #changed(): Qcow2Error {
    return this.#error('it has changed on the server since it was opened');
  }

  #error(why: string): Qcow2Error {
    return new Qcow2Error('IO', `Could not read '${this.name}': ${why}`, { file: this.name });
  }

  #refused(why: string): Qcow2Error {
    return new Qcow2Error('REFUSED', `Could not read '${this.name}': ${why}`, { file: this.name });
  }
}

/** `bytes 0-99/1000`, as the bytes `[0, 100)` of 1000. */
function parseContentRange(text: string): Part | undefined {
  const [, first, last, size] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(text.trim()) ?? [];
  if (first === undefined) return undefined;
  return { start: Number(first), end: Number(last) + 1, size: Number(size) };
}

/**
 * Headers by names in small letters. Not `Headers`, which has Node load all of `fetch`, for 25 ms.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
function fieldsOf(headers: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(headers).map(([name, given]) => {
    const value = String(given).trim();
    if (/^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\t\x20-\x7e\x80-\xff]*$/.test(value))
      return [name.toLowerCase(), value];
    // Its value may be a secret.
    throw new Qcow2Error('INVALID_ARGUMENT', `HTTP header ${JSON.stringify(name)} cannot be sent`);
  });
}

/** Milliseconds of a `Retry-After` in seconds. */
function pauseOf(text: string | null): number {
  if (text === null || !/^\d+$/.test(text)) return 0;
  return Math.min(Number(text) * 1000, MAX_PAUSE);
}

/** The reason of a failed fetch: a code of the system, or what the engine says. */
function reasonOf(error: unknown): string {
  const code = codeOf(error);
  if (code !== undefined) return code;
  const text = error instanceof Error ? error.message : String(error);
  return /https?:/i.test(text) ? 'the request failed' : text;
}

function codeOf(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: unknown };
    if (typeof code === 'string') return code;
  }
  return undefined;
}
