import * as http from 'node:http';
import * as https from 'node:https';
import type { HttpAnswer, HttpRequest } from '../storage/http-transport.ts';

/** An answer, and what ends it when nobody wants its body. */
export interface Sent {
  answer: HttpAnswer;
  drop: () => void;
}

const AGENTS = {
  'http:': new http.Agent({ keepAlive: true }),
  'https:': new https.Agent({ keepAlive: true }),
};

/**
 * A request by node:http, which understands more than our own connections do.
 * @throws errors of sockets, and of node:http for answers that are wrong
 */
export async function sendByNode(url: URL, request: HttpRequest): Promise<Sent> {
  const { method, signal } = request;
  const headers = { ...Object.fromEntries(request.headers), 'accept-encoding': 'identity' };
  const isSecure = url.protocol === 'https:';
  const options = { method, headers, signal, agent: AGENTS[isSecure ? 'https:' : 'http:'] };
  const sent = (isSecure ? https : http).request(url, options);
  try {
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      sent.on('response', resolve);
      sent.on('error', reject);
      sent.end();
    });
    return { answer: answerOf(response, url.href), drop: () => response.destroy() };
  } catch (error) {
    // The server had closed a connection that was kept for the next request.
    const wasIdle = sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
    if (!wasIdle || signal.aborted) throw error;
    return sendByNode(url, request);
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
    receive(into, received) {
      let filled = 0;
      return new Promise<void>((resolve, reject) => {
        response.on('data', (bytes: Uint8Array) => {
          try {
            received(bytes.length);
            into.set(bytes, filled);
            filled += bytes.length;
          } catch (error) {
            response.destroy();
            reject(error);
          }
        });
        response.on('end', resolve);
        response.on('error', reject);
        response.on('close', () => reject(new Error('the connection was closed')));
      });
    },
  };
}
