import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { nodeTransport } from '../../src/node/http-transport.ts';
import { type HttpOptions, HttpStorage } from '../../src/storage/http.ts';
import { selfSigned } from '../support/certificate.ts';
import { makeContent } from '../support/data.ts';

const SIZE = 300_000;
const content = makeContent('random', SIZE);
const pause = () => new Promise((resolve) => setImmediate(resolve));

/** Answers a request for `[start, end)` by whatever it likes to write. */
type Answer = (socket: Socket, start: number, end: number, index: number) => void | Promise<void>;

/** A server of bytes, not of HTTP: it can say anything. */
class RawServer {
  connections = 0;
  requests = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #scheme: string;

  constructor(answer: Answer, tls?: { key: string; cert: string }) {
    const serve = (socket: Socket): void => this.#serve(socket, answer);
    this.#scheme = tls ? 'https' : 'http';
    this.#server = tls ? createTlsServer(tls, serve) : createServer(serve);
  }

  async open(options: HttpOptions = {}): Promise<HttpStorage> {
    if (!this.#server.listening)
      await new Promise<void>((resolve) => void this.#server.listen(0, resolve));
    const { port } = this.#server.address() as AddressInfo;
    const small = { blockBytes: 4096, cacheBytes: 0, retries: 2, retryDelay: 1, timeout: 2000 };
    const how = { transport: nodeTransport, ...small, ...options };
    return HttpStorage.open(`${this.#scheme}://localhost:${port}/disk?x=1`, how);
  }

  /** Of connections, as a server does that has waited long enough. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.drop();
    this.#server.close();
  }

  #serve(socket: Socket, answer: Answer): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (!text.endsWith('\r\n\r\n')) return;
      expect(text).toMatch(/^GET \/disk\?x=1 HTTP\/1.1\r\n.*accept-encoding: identity\r\n/s);
      const [, first, last] = /\r\nrange: bytes=(\d+)-(\d+)\r\n/.exec(text)!;
      text = '';
      void answer(socket, Number(first), Math.min(Number(last) + 1, SIZE), this.requests++);
    });
  }
}

let server: RawServer;
afterEach(() => server.close());

function headOf(start: number, end: number, more = ''): string {
  const range = `Content-Range: bytes ${start}-${end - 1}/${SIZE}\r\n`;
  return `HTTP/1.1 206 Part\r\nETag: "1"\r\n${range}${more}`;
}

function answerOf(start: number, end: number, more = ''): Buffer {
  const head = headOf(start, end, `${more}Content-Length: ${end - start}\r\n\r\n`);
  return Buffer.concat([Buffer.from(head, 'latin1'), content.subarray(start, end)]);
}

const good: Answer = (socket, start, end) => void socket.write(answerOf(start, end));

async function expectRead(storage: HttpStorage, offset: number, length: number): Promise<void> {
  const into = new Uint8Array(length);
  expect(await storage.read(offset, into)).toBe(length);
  expect(Buffer.compare(into, content.subarray(offset, offset + length))).toBe(0);
}

describe('over one connection', () => {
  it('takes answers in any pieces', async () => {
    let cuts: readonly number[] = [];
    server = new RawServer(async (socket, start, end) => {
      const bytes = answerOf(start, end);
      const places = [0, ...cuts.map((cut) => cut % bytes.length)].sort((a, b) => a - b);
      for (const [i, place] of places.entries()) {
        socket.write(bytes.subarray(place, places[i + 1]));
        await pause();
      }
    });
    const storage = await server.open();
    const lengths = [fc.integer({ min: 1, max: 50 }), fc.integer({ min: 4096, max: 60_000 })];
    const cases = fc.record({
      offset: fc.nat(SIZE - 1),
      length: fc.oneof(...lengths),
      cuts: fc.array(fc.oneof(fc.nat(200), fc.nat(70_000)), { maxLength: 12 }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async (wanted) => {
        cuts = wanted.cuts;
        await expectRead(storage, wanted.offset, Math.min(wanted.length, SIZE - wanted.offset));
      }),
      { numRuns: 200 },
    );
    expect(server.connections).toBe(1);
    storage.close();
  });

  it('receives into kernel memory, and touches nothing around it', async () => {
    server = new RawServer(good);
    const storage = await server.open();
    const { buffer } = new WebAssembly.Memory({ initial: 4 });
    const into = new Uint8Array(buffer, 1000, 100_000);
    await storage.read(77, into);
    expect(Buffer.compare(into, content.subarray(77, 100_077))).toBe(0);
    const all = new Uint8Array(buffer);
    expect(all.subarray(0, 1000).some((byte) => byte !== 0)).toBe(false);
    expect(all.subarray(101_000).some((byte) => byte !== 0)).toBe(false);
    storage.close();
  });

  it('begins another when the server has closed it meanwhile, or says that it will', async () => {
    server = new RawServer((socket, start, end, index) => {
      socket.write(answerOf(start, end, index === 2 ? 'Connection: close\r\n' : ''));
      if (index === 2) socket.end();
    });
    const storage = await server.open({ retries: 0 });
    await expectRead(storage, 5000, 10_000);
    server.drop();
    await expectRead(storage, 20_000, 10_000);
    await expectRead(storage, 50_000, 10_000);
    expect([server.connections, server.requests]).toEqual([3, 4]);
    storage.close();
  });

  it('uses it no more when there are bytes behind an answer', async () => {
    server = new RawServer((socket, start, end) => {
      socket.write(Buffer.concat([answerOf(start, end), answerOf(0, 100)]));
    });
    const storage = await server.open();
    for (const offset of [5000, 50_000]) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      await expectRead(storage, offset, 9000);
    }
    expect(server.connections).toBe(3);
    // Nor are they taken for the next answer where that is asked for before they are seen.
    const reading = storage.read(100_000, new Uint8Array(9000));
    await expect(reading).rejects.toThrow(/bytes 0 to 99 to a request for 100000 to/);
    storage.close();
  });

  it('is secure where the URL says so, and trusts nobody unknown', async () => {
    server = new RawServer(good, selfSigned());
    await expect(server.open()).rejects.toThrow(/DEPTH_ZERO_SELF_SIGNED_CERT/);
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    try {
      const storage = await server.open();
      for (const offset of [0, 4096, 70_000]) await expectRead(storage, offset, 200_000);
      expect(server.connections).toBe(1);
      storage.close();
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    }
  });
});

describe('answers out of the ordinary', () => {
  it.each([
    ['chunked', 'Transfer-Encoding: chunked\r\n\r\n'],
    ['until the end of the connection', '\r\n'],
    ['after an interim answer', undefined],
  ])('are left to node:http: %s', async (how, fields) => {
    server = new RawServer((socket, start, end) => {
      const body = content.subarray(start, end);
      if (fields === undefined) {
        socket.write('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n');
        socket.write(answerOf(start, end));
        return;
      }
      socket.write(headOf(start, end, fields));
      if (how === 'chunked') socket.write(`${body.length.toString(16)}\r\n`);
      socket.write(body);
      if (how === 'chunked') socket.write('\r\n0\r\n\r\n');
      else socket.end();
    });
    const storage = await server.open();
    await expectRead(storage, 5000, 50_000);
    await expectRead(storage, 100_000, 50_000);
    // Once is enough to know.
    expect(server.requests).toBe(4);
    storage.close();
  });

  it.each<[string, RegExp, (start: number, end: number) => string | Buffer]>([
    ['no HTTP', /HPE_|Parse/i, () => 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['a long header', /HPE_HEADER_OVERFLOW/, (a, b) => headOf(a, b, `x: ${'y'.repeat(70_000)}`)],
    [
      'two lengths',
      /HPE_/,
      (a, b) => headOf(a, b, 'Content-Length: 1\r\nContent-Length: 2\r\n\r\n'),
    ],
    [
      'more than a part',
      /more than it was asked for/,
      (a, b) => headOf(a, b, `Content-Length: ${b - a + 1}\r\n\r\n`),
    ],
    [
      'less than a part',
      /the answer ends after 1 of 4096/,
      (a, b) => `${headOf(a, b, 'Content-Length: 1\r\n\r\n')}x`,
    ],
    ['nothing more', /no byte came for 200 ms/, (a, b) => answerOf(a, b).subarray(0, -1)],
  ])('are errors: %s', async (_, message, text) => {
    server = new RawServer((socket, start, end, index) => {
      socket.write(index === 0 ? answerOf(start, end) : text(start, end));
    });
    const storage = await server.open({ timeout: 200 });
    const into = new Uint8Array(4096);
    await expect(storage.read(8192, into)).rejects.toMatchObject({ code: 'IO', message });
    const before = into.slice();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(Buffer.compare(into, before)).toBe(0);
    storage.close();
  });

  it('are errors: headers without end', async () => {
    let sent = 0;
    server = new RawServer((socket, start, end) => {
      const line = `x-${'y'.repeat(1000)}: z\r\n`;
      const more = (): void => {
        for (let i = 0; i < 64 && !socket.destroyed; i++)
          sent += socket.write(line) ? line.length : 0;
        if (!socket.destroyed) setImmediate(more);
      };
      socket.write(headOf(start, end));
      more();
    });
    await expect(server.open()).rejects.toThrow(/HPE_HEADER_OVERFLOW/);
    expect(sent).toBeLessThan(64 << 20);
  });

  it('end with the signal in the middle of a body', async () => {
    const controller = new AbortController();
    server = new RawServer((socket, start, end, index) => {
      socket.write(index === 0 ? answerOf(start, end) : answerOf(start, end).subarray(0, 9000));
      if (index > 0) setTimeout(() => controller.abort(), 20);
    });
    const storage = await server.open({ signal: controller.signal });
    await expect(storage.read(0, new Uint8Array(20_000))).rejects.toMatchObject({
      code: 'ABORTED',
    });
    storage.close();
  });
});

it('sends no headers that are none', async () => {
  server = new RawServer(good);
  for (const headers of [{ 'a b': 'x' }, { a: 'x\r\nb: secret' }, { a: 'ü€' }]) {
    const opening = server.open({ headers: headers as Record<string, string> });
    await expect(opening).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(opening).rejects.not.toThrow(/secret/);
  }
  expect(server.requests).toBe(0);
});
