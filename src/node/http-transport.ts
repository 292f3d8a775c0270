import * as http from 'node:http';
import * as https from 'node:https';
import * as net from 'node:net';
import type { HttpAnswer, HttpRequest, HttpTransport } from '../storage/http-transport.ts';
import { PRIVATE_HEADERS } from '../storage/http-transport.ts';

/** Redirections followed in one request; the limit of `fetch`. */
const MAX_REDIRECTIONS = 20;

/**
 * Bytes taken from a socket at once. The parser copies each part of a body; larger parts have glibc give
 * memory back and take it anew, a page at a time.
 */
const SOCKET_BYTES = 16 * 1024;

/** The answer each socket is receiving, once what had come before it was asked for is used up. */
const receiving = new WeakMap<net.Socket, http.IncomingMessage>();

/**
 * A connection that receives into one buffer, in place of a new one of 64 KiB each time, whose memory
 * takes more system time than receiving does. What nobody takes at once is copied.
 */
function connect(options: net.NetConnectOpts): net.Socket {
  const buffer = Buffer.allocUnsafeSlow(SOCKET_BYTES);
  const callback = (length: number): boolean => {
    const bytes = buffer.subarray(0, length);
    const answer = receiving.get(socket);
    socket.emit('data', answer ? bytes : Buffer.from(bytes));
    // It would show other bytes when it is used.
    if (answer && answer.readableLength > 0)
      socket.destroy(new Error('received bytes were not taken'));
    return true;
  };
  const socket = net.connect({ ...options, onread: { buffer, callback } });
  return socket;
}

const AGENTS = {
  'http:': Object.assign(new http.Agent({ keepAlive: true }), { createConnection: connect }),
  'https:': new https.Agent({ keepAlive: true }),
};

/** Requests by node:http, which takes half the processor time of Node's `fetch`. */
export const nodeTransport: HttpTransport = async (url, request) => {
  let at = url;
  let { headers } = request;
  for (let redirections = 0; ; redirections++) {
    const response = await send(new URL(at), { ...request, headers });
    const { statusCode: status = 0 } = response;
    const { location } = response.headers;
    const isRedirection = [301, 302, 303, 307, 308].includes(status) && location !== undefined;
    if (!isRedirection || !request.redirects) return answerOf(response, at);
    response.destroy();
    const next = new URL(location, at);
    if (redirections >= MAX_REDIRECTIONS || !Object.hasOwn(AGENTS, next.protocol))
      throw new Error('a redirection leads nowhere');
    if (next.origin !== new URL(at).origin) headers = withoutPrivate(headers);
    at = next.href;
  }
};

function withoutPrivate(headers: Headers): Headers {
  const rest = new Headers(headers);
  for (const name of PRIVATE_HEADERS) rest.delete(name);
  return rest;
}

async function send(url: URL, request: HttpRequest): Promise<http.IncomingMessage> {
  const { method, signal } = request;
  const headers = { ...Object.fromEntries(request.headers), 'accept-encoding': 'identity' };
  const isSecure = url.protocol === 'https:';
  const options = { method, headers, signal, agent: AGENTS[isSecure ? 'https:' : 'http:'] };
  const sent = (isSecure ? https : http).request(url, options);
  try {
    return await new Promise((resolve, reject) => {
      sent.on('response', resolve);
      sent.on('error', reject);
      sent.end();
    });
  } catch (error) {
    // The server had closed a connection that was kept for the next request.
    const wasIdle = sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
    if (!wasIdle || signal.aborted) throw error;
    return send(url, request);
  }
}

function answerOf(response: http.IncomingMessage, url: string): HttpAnswer {
  return {
    status: response.statusCode ?? 0,
    header(name) {
      const value = response.headers[name];
      return value === undefined ? null : String(value);
    },
    url,
    hidesHeaders: false,
    receive(received) {
      const { socket } = response;
      return new Promise<void>((resolve, reject) => {
        response.on('data', (bytes: Uint8Array) => {
          try {
            received(bytes);
            if (response.readableLength === 0) receiving.set(socket, response);
          } catch (error) {
            response.destroy();
            reject(error);
          }
        });
        response.on('end', () => {
          receiving.delete(socket);
          resolve();
        });
        response.on('error', reject);
        response.on('close', () => reject(new Error('the connection was closed')));
      });
    },
  };
}
