import * as net from 'node:net';
import type * as tls from 'node:tls';
import { type HttpHead, parseHead } from './http-head.ts';

/** Longest head of an answer. */
const HEAD_BYTES = 16 * 1024;
/** Bytes taken from the socket at once where they are not yet known to be the body's. */
const SCRATCH_BYTES = 4 * 1024;
/** TLS hands out all it has, stopped or not; it never has so much. */
const MOST_HELD = 1024 * 1024;

/** The answer is not one that is read here, or will never come on this connection. */
export class UnusualAnswer extends Error {}

/** A connection that was kept has been closed before anything of the answer came. */
export class StaleConnection extends Error {}

interface Settle<T> {
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

/** A body on its way into its buffer. */
interface Body extends Settle<void> {
  into: Uint8Array;
  filled: number;
  received: (length: number) => void;
}

/**
 * A connection to a web server, for one request after the other. The system receives bodies right where
 * they belong: node:http has them in new buffers, which costs more than twice the time.
 */
export class HttpConnection {
  readonly #socket: net.Socket;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  /** Of the head, and what came of the body before it was asked for. */
  #held = Buffer.allocUnsafeSlow(2 * SCRATCH_BYTES);
  #heldBytes = 0;
  #awaitsHead: Settle<HttpHead> | undefined;
  #head: HttpHead | undefined;
  #body: Body | undefined;
  #isReused = false;
  #failure: Error | undefined;

  private constructor(
    connect: (onread: net.OnReadOpts) => net.Socket,
    closed: (connection: HttpConnection) => void,
  ) {
    this.#socket = connect({
      buffer: () => this.#nextBuffer(),
      callback: (length, bytes) => this.#take(bytes.subarray(0, length)),
    });
    this.#socket.setNoDelay(true);
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => {
      this.#fail(new Error('the connection was closed'));
      closed(this);
    });
  }

  /** @param closed called once, when nothing comes of the connection any more */
  static async open(
    { protocol, hostname, port }: URL,
    closed: (connection: HttpConnection) => void,
  ): Promise<HttpConnection> {
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    if (protocol === 'http:') {
      const place = { host, port: Number(port || 80) };
      return new HttpConnection((onread) => net.connect({ ...place, onread }), closed);
    }
    const { connect } = await import('node:tls');
    const options: tls.ConnectionOptions = {
      host,
      port: Number(port || 443),
      ALPNProtocols: ['http/1.1'],
      ...(net.isIP(host) === 0 && { servername: host }),
    };
    return new HttpConnection((onread) => connect(Object.assign({ onread }, options)), closed);
  }

  get isOpen(): boolean {
    return this.#failure === undefined;
  }

  /**
   * Sends a request; settles when the head of its answer is here, which has a body of a known length if
   * its status is 206.
   * @param text one character per byte, with the empty line
   * @throws UnusualAnswer, StaleConnection, errors of sockets
   */
  async request(text: string): Promise<HttpHead> {
    if (this.#failure) throw this.#failure;
    this.#heldBytes = 0;
    const head = new Promise<HttpHead>((resolve, reject) => {
      this.#awaitsHead = { resolve, reject };
    });
    this.#socket.ref();
    this.#socket.write(text, 'latin1');
    return head;
  }

  /**
   * Receives the body into `into`; `received` is told the bytes of each part, before anything is done
   * with bytes for which there is no room. Nothing is written into `into` once this has settled.
   */
  async receive(into: Uint8Array, received: (length: number) => void): Promise<void> {
    if (this.#failure) throw this.#failure;
    const length = this.#head!.length!;
    const early = this.#held.subarray(0, Math.min(this.#heldBytes, length));
    const isOver = this.#heldBytes > length;
    try {
      if (length > into.length) received(length);
      into.set(early);
      received(early.length);
    } catch (error) {
      this.destroy();
      throw error;
    }
    this.#head = undefined;
    if (isOver) this.destroy();
    if (early.length === length) return this.#rest();
    return new Promise((resolve, reject) => {
      const part = into.subarray(0, length);
      this.#body = { into: part, filled: early.length, received, resolve, reject };
      this.#socket.resume();
    });
  }

  /** Ends the connection, and what waits for it. */
  destroy(error = new Error('the request was ended')): void {
    this.#fail(error);
    this.#socket.destroy();
  }

  /** Keeps the process no longer; what comes now nobody has asked for. */
  #rest(): void {
    this.#isReused = true;
    this.#socket.unref();
    this.#socket.resume();
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    const isStale = this.#isReused && this.#heldBytes === 0;
    this.#awaitsHead?.reject(isStale ? new StaleConnection('closed', { cause: error }) : error);
    this.#body?.reject(error);
    this.#awaitsHead = undefined;
    this.#body = undefined;
  }

  /** Where the system writes what comes next. */
  #nextBuffer(): Uint8Array {
    return this.#body ? this.#body.into.subarray(this.#body.filled) : this.#scratch;
  }

  /** Takes what came; false stops reading. */
  #take(bytes: Uint8Array): boolean {
    if (this.#body) this.#takeBody(this.#body, bytes);
    else if (this.#awaitsHead) return this.#takeHead(this.#awaitsHead, bytes);
    else if (this.#head) {
      this.#hold(bytes);
      if (this.#heldBytes > MOST_HELD) this.destroy(new Error('the server sends too fast'));
      return false;
    } else this.destroy(new Error('the server sends what was not asked for'));
    return true;
  }

  #hold(bytes: Uint8Array): void {
    const length = this.#heldBytes + bytes.length;
    if (length > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(2 * length);
      larger.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#heldBytes);
    this.#heldBytes = length;
  }

  #takeHead(awaits: Settle<HttpHead>, bytes: Uint8Array): boolean {
    const from = Math.max(0, this.#heldBytes - 3);
    this.#hold(bytes);
    const end = this.#held.subarray(0, this.#heldBytes).indexOf('\r\n\r\n', from, 'latin1');
    if (end < 0 && this.#heldBytes <= HEAD_BYTES) return true;
    const head = end < 0 ? undefined : parseHead(this.#held.toString('latin1', 0, end));
    // Only parts of files are received here: no other body is wanted.
    if (head === undefined || (head.status === 206 && head.length === undefined)) {
      this.destroy(new UnusualAnswer('the head of the answer is an unusual one'));
      return false;
    }
    this.#held.copyWithin(0, end + 4, this.#heldBytes);
    this.#heldBytes -= end + 4;
    this.#awaitsHead = undefined;
    this.#head = head;
    awaits.resolve(head);
    return false;
  }

  #takeBody(body: Body, bytes: Uint8Array): void {
    const { into, filled } = body;
    const part = bytes.subarray(0, into.length - filled);
    // The first bytes may come to where the system was to write before.
    if (part.buffer === this.#scratch.buffer) into.set(part, filled);
    body.filled += part.length;
    try {
      body.received(part.length);
    } catch (error) {
      this.destroy(error as Error);
      return;
    }
    if (body.filled < into.length) return;
    this.#body = undefined;
    if (part.length < bytes.length) this.destroy();
    else this.#rest();
    body.resolve();
  }
}
