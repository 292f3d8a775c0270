import { Qcow2Error } from '../errors.ts';
import { type Piece, PieceCache } from './http-pieces.ts';
import { HttpRanges, type HttpRequestOptions, type Version } from './http-request.ts';
import { parseHttpUrl } from './http-url.ts';
import type { Storage } from './storage.ts';

/** How a file on a web server is read. */
export interface HttpOptions extends HttpRequestOptions {
  /** Bytes fetched at least, for small reads. Default 256 KiB. */
  blockBytes?: number | undefined;
  /** Bytes of memory for what was fetched. Default 8 MiB. */
  cacheBytes?: number | undefined;
  /** Bytes fetched ahead of reads that follow one another. Default 4 MiB. */
  readAhead?: number | undefined;
}

const BLOCK_BYTES = 256 * 1024;
const CACHE_BYTES = 8 * 1024 * 1024;
const READ_AHEAD = 4 * 1024 * 1024;
/** Bytes asked for at once by reading ahead. */
const AHEAD_BYTES = 1024 * 1024;
/** Most bytes of one request. */
const REQUEST_BYTES = 2 * 1024 * 1024;
/** So many bytes have to be read one after the other before others are fetched ahead. */
const SEQUENTIAL_BYTES = 512 * 1024;

/**
 * A file on a web server that serves ranges, read-only, through `fetch`: in browsers and in Node. Only
 * what is read is fetched, with some blocks in a cache. A file that changes meanwhile is an error; what
 * fails for a reason that may pass is asked for again. User, password and query of the URL are not
 * shown in messages.
 * @example
 * import { HttpStorage, Image, info } from 'qcow2';
 *
 * const storage = await HttpStorage.open('https://images.example/disk.qcow2');
 * const image = await Image.open(storage);
 * console.log((await info(image)).virtualSize, `${storage.requests} requests`);
 * await image.close();
 */
export class HttpStorage implements Storage {
  readonly size: number;
  /**
   * What the server calls the version that is read: its ETag or else its Last-Modified, as they are in the
   * answer; undefined if it tells neither.
   */
  readonly version: string | undefined;
  readonly name: string;
  readonly identity: string;
  readonly #ranges: HttpRanges;
  readonly #blockBytes: number;
  readonly #readAhead: number;
  readonly #pieces: PieceCache;
  /** Somebody says what will be read: no need to guess. */
  #isTold = false;
  /** Where the last read ended, and how many bytes were read before it without a gap. */
  #last = -1;
  #inOrder = 0;

  private constructor(
    ranges: HttpRanges,
    identity: string,
    { size, etag, lastModified }: Version,
    { blockBytes = BLOCK_BYTES, cacheBytes = CACHE_BYTES, readAhead = READ_AHEAD }: HttpOptions,
  ) {
    this.#ranges = ranges;
    this.name = ranges.name;
    this.identity = identity;
    this.size = size;
    this.version = etag ?? lastModified ?? undefined;
    this.#blockBytes = blockBytes;
    this.#readAhead = readAhead;
    this.#pieces = new PieceCache(cacheBytes, (offset, into) => ranges.fill(offset, into));
  }

  /**
   * Asks the server for the first block, and with it for the length of the file.
   * @throws Qcow2Error INVALID_ARGUMENT: no http or https URL, or an option out of range; NOT_FOUND;
   *   REFUSED: the server serves no ranges, or this may not be read (`allowedUrls`); IO; ABORTED
   */
  static async open(url: string | URL, options: HttpOptions = {}): Promise<HttpStorage> {
    requireOptions(options);
    const address = parseHttpUrl(String(url));
    const ranges = new HttpRanges(address, options);
    const first = new Uint8Array(options.blockBytes ?? BLOCK_BYTES);
    try {
      const version = await ranges.open(first);
      const storage = new HttpStorage(ranges, address.url.href, version, options);
      storage.#pieces.put(0, first.subarray(0, Math.min(storage.size, first.length)));
      return storage;
    } catch (error) {
      ranges.close();
      throw error;
    }
  }

  /** Requests made so far, repeated ones included. */
  get requests(): number {
    return this.#ranges.requests;
  }

  /** @throws Qcow2Error IO: the server cannot be reached, or the file has changed; ABORTED */
  read(offset: number, into: Uint8Array): number | Promise<number> {
    const end = Math.min(offset + into.length, this.size);
    if (end <= offset) return 0;
    const at = this.#pieces.copy(offset, into.subarray(0, end - offset));
    this.#guess(offset, end);
    return at === end ? end - offset : this.#fetch(offset, at, end, into);
  }

  /** Begins to fetch a range that is read soon, if there is room for it. */
  prefetch(offset: number, length: number): void {
    this.#isTold = true;
    this.#fetchAhead(offset, Math.min(offset + length, this.size), REQUEST_BYTES, 1);
  }

  /** Ends requests under way. */
  close(): void {
    this.#ranges.close();
  }

  /** Fetches ahead when reads follow one another. */
  #guess(offset: number, end: number): void {
    if (this.#isTold) return;
    this.#inOrder = offset === this.#last ? this.#inOrder + end - offset : 0;
    this.#last = end;
    if (this.#inOrder < SEQUENTIAL_BYTES) return;
    this.#fetchAhead(end, Math.min(end + this.#readAhead, this.size), AHEAD_BYTES, AHEAD_BYTES);
  }

  /** @param least not in driblets: fewer bytes at the end of the range wait for more, but not at the file's */
  #fetchAhead(from: number, to: number, most: number, least: number): void {
    for (let at = from; at < to; ) {
      const piece = this.#pieces.find(at);
      if (piece !== undefined) {
        at = piece.end;
        continue;
      }
      const end = Math.min(to, at + most, this.#pieces.nextStart(at));
      if (end === to && end < this.size && end - at < least) return;
      if (this.#pieces.load(at, end, true) === undefined) return;
      at = end;
    }
  }

  /** Fills `into` from offset `at` on; its first byte is the file's at `base`. */
  async #fetch(base: number, at: number, end: number, into: Uint8Array): Promise<number> {
    const parts: Promise<void>[] = [];
    for (let from = at; from < end; ) {
      const found = this.#pieces.find(from);
      const to = Math.min(end, found?.end ?? this.#pieces.nextStart(from), from + REQUEST_BYTES);
      const part = into.subarray(from - base, to - base);
      const piece = found ?? this.#block(from, to);
      if (piece === undefined) parts.push(this.#ranges.fill(from, part));
      else parts.push(this.#pieces.copyLoaded(piece, from, part));
      from = Math.min(to, piece?.end ?? to);
    }
    // Nothing may be written into the buffer any more when this returns, with an error or without.
    const failed = (await Promise.allSettled(parts)).find(({ status }) => status === 'rejected');
    if (failed) throw (failed as PromiseRejectedResult).reason;
    return end - base;
  }

  /** The block around a small range, cut at what is there; undefined for a large one. */
  #block(from: number, to: number): Piece | undefined {
    const size = this.#blockBytes;
    if (to - from >= size) return undefined;
    const start = Math.max(Math.floor(from / size) * size, this.#pieces.lastEnd(from));
    const end = Math.min(Math.ceil(to / size) * size, this.#pieces.nextStart(from), this.size);
    return this.#pieces.load(start, end, false);
  }
}

function requireOptions(options: HttpOptions): void {
  const { blockBytes = BLOCK_BYTES, cacheBytes = CACHE_BYTES, readAhead = READ_AHEAD } = options;
  const { retries = 0, retryDelay = 0, timeout = 1 } = options;
  const counts = { cacheBytes, readAhead, retries, retryDelay };
  const least = { blockBytes: [blockBytes, 512], timeout: [timeout, 1] } as const;
  for (const [name, value] of Object.entries(counts)) requireCount(name, value, 0);
  for (const [name, [value, from]] of Object.entries(least)) requireCount(name, value, from);
}

function requireCount(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= 2 ** 31 - 1) return;
  const text = `HTTP option ${name}: ${value} is not a whole number from ${least} to 2^31 - 1`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}
