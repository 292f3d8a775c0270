import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';

/** What a request asks for, and what a good server answers. */
export interface Asked {
  /** How many requests came before. */
  index: number;
  request: IncomingMessage;
  response: ServerResponse;
  /** The bytes `[start, end)` of `size`. */
  start: number;
  end: number;
  size: number;
  body: Uint8Array;
  headers: Record<string, string>;
}

/** Answers in some other way; returns whether it did. */
export type Misbehaviour = (asked: Asked) => boolean | undefined;

/** A web server on this machine that serves ranges of bytes in memory, well or badly. */
export class RangeServer {
  readonly files: Record<string, Uint8Array>;
  /** Requests so far. */
  readonly requests: {
    method: string;
    path: string;
    range: string | undefined;
    headers: IncomingMessage['headers'];
  }[] = [];
  /** Bytes of bodies sent. */
  sent = 0;
  misbehave: Misbehaviour | undefined;
  readonly #server: Server;

  constructor(files: Record<string, Uint8Array>) {
    this.files = files;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  async open(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  url(name: string): string {
    return `${this.origin}/${name}`;
  }

  /** Forgets what was asked for, and behaves. */
  reset(misbehave?: Misbehaviour): void {
    this.requests.length = 0;
    this.sent = 0;
    this.misbehave = misbehave;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '/', headers: sent } = request;
    const path = decodeURIComponent(new URL(url, this.origin).pathname).slice(1);
    const index = this.requests.length;
    this.requests.push({ method, path, range: sent.range, headers: sent });
    const file = this.files[path];
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(sent.range ?? '') ?? [];
    const size = file?.length ?? 0;
    const start = Number(first ?? 0);
    const end = Math.min(last ? Number(last) + 1 : size, size);
    const body = file?.subarray(start, end) ?? new Uint8Array(0);
    const headers = {
      ETag: `"${path}-1"`,
      'Content-Length': String(body.length),
      'Content-Range': `bytes ${start}-${end - 1}/${size}`,
    };
    const asked = { index, request, response, start, end, size, body, headers };
    if (this.misbehave?.(asked)) return;
    if (file === undefined) {
      response.writeHead(404).end('not here');
    } else if (first !== undefined && start >= size) {
      response.writeHead(416, { 'Content-Range': `bytes */${size}` }).end();
    } else {
      this.sent += body.length;
      response.writeHead(first === undefined ? 200 : 206, headers);
      response.end(method === 'HEAD' ? undefined : body);
    }
  }
}

/** The ways in which servers misbehave. */
export const misbehaviours = {
  noRanges: ({ response, request }) => {
    delete request.headers.range;
    response.writeHead(200).end('everything');
    return true;
  },
  wrongContentRange: ({ response, body, start, end, size }) => {
    response.writeHead(206, { 'Content-Range': `bytes ${start + 512}-${end + 511}/${size}` });
    response.end(body);
    return true;
  },
  noContentRange: ({ response, body }) => {
    response.writeHead(206).end(body);
    return true;
  },
  otherSize: ({ index, response, body, start, end, size, headers }) => {
    if (index === 0) return false;
    const range = `bytes ${start}-${end - 1}/${size + 512}`;
    response.writeHead(206, { ...headers, 'Content-Range': range }).end(body);
    return true;
  },
  otherETag: ({ index, response, body, headers }) => {
    if (index === 0) return false;
    response.writeHead(206, { ...headers, ETag: '"another"' }).end(body);
    return true;
  },
  /** Each answer breaks off in the middle. */
  truncated: ({ response, body, headers }) => {
    response.writeHead(206, headers);
    response.write(body.subarray(0, body.length >> 1), () => response.destroy());
    return true;
  },
  /** Ends early without a length to compare with. */
  shortChunked: ({ response, body, headers: { 'Content-Length': _, ...headers } }) => {
    response.writeHead(206, headers).end(body.subarray(0, body.length >> 1));
    return true;
  },
  twice503: ({ index, response }) => {
    if (index >= 2) return false;
    response.writeHead(503, { 'Retry-After': '0' }).end('later');
    return true;
  },
  always503: ({ response }) => {
    response.writeHead(503).end();
    return true;
  },
  gzip: ({ response, body, headers: { 'Content-Length': _, ...headers } }) => {
    response.writeHead(206, { ...headers, 'Content-Encoding': 'gzip' }).end(gzipSync(body));
    return true;
  },
  /** Sends the same bytes for ever. */
  endless: ({ response, body, headers: { 'Content-Length': _, ...headers } }) => {
    response.writeHead(206, headers);
    const more = (): void => {
      while (!response.destroyed && response.write(body));
    };
    response.on('drain', more);
    more();
    return true;
  },
  silent: ({ response, headers }) => {
    response.writeHead(206, headers).flushHeaders();
    return true;
  },
  headRefused: ({ request, response }) => {
    if (request.method !== 'HEAD') return false;
    response.writeHead(405).end();
    return true;
  },
  forbidden: ({ response }) => {
    response.writeHead(403).end('no');
    return true;
  },
} satisfies Record<string, Misbehaviour>;
