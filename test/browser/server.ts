import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/** A static file server as plain as they come: type, length and ranges, no rewriting of modules. */
export class StaticServer {
  /** Paths that were asked for, in order. */
  readonly requested: string[] = [];
  /** Bytes of files in all answers. */
  sentBytes = 0;
  /** Those that were not there. */
  readonly missing: string[] = [];
  readonly #folders: Readonly<Record<string, string>>;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #server: Server;

  /**
   * @param folders folder served below each first part of the path
   * @param headers of every answer
   */
  constructor(
    folders: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>> = {},
  ) {
    this.#folders = folders;
    this.#headers = headers;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  /** Starts on a port of this machine, any free one by default. */
  async open(port = 0): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.origin);
    const [, first = '', ...rest] = normalize(decodeURIComponent(pathname)).split('/');
    const folder = this.#folders[first];
    const path = folder === undefined ? undefined : join(folder, ...rest);
    this.requested.push(pathname);
    const file = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false });
    if (path === undefined || !file?.isFile()) {
      if (pathname !== '/favicon.ico') this.missing.push(pathname);
      response.writeHead(404).end();
      return;
    }
    const policy = searchParams.get('policy');
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const [start, end] = range
      ? [Number(range[1]), Math.min(Number(range[2]), file.size - 1)]
      : [0, file.size - 1];
    response.writeHead(range ? 206 : 200, {
      ...this.#headers,
      'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream',
      'Content-Length': end - start + 1,
      ...(range && { 'Content-Range': `bytes ${start}-${end}/${file.size}` }),
      ...(policy !== null && { 'Content-Security-Policy': policy }),
    });
    if (request.method === 'HEAD' || file.size === 0) response.end();
    else {
      this.sentBytes += end - start + 1;
      createReadStream(path, { start, end }).pipe(response);
    }
  }
}
