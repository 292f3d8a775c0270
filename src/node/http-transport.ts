import {
  type HttpAnswer,
  type HttpRequest,
  type HttpTransport,
  PRIVATE_HEADERS,
} from '../storage/http-transport.ts';
import { isHttpUrl } from '../storage/http-url.ts';
import type { Sent } from './http-by-node.ts';
import { HttpConnection, StaleConnection, UnusualAnswer } from './http-connection.ts';

/** Redirections followed in one request; the limit of `fetch`. */
const MAX_REDIRECTIONS = 20;
/** Connections to one server kept for later requests. */
const MOST_KEPT = 16;

/** Connections that nobody uses just now, by origin. */
const kept = new Map<string, HttpConnection[]>();
/** Origins that answer in ways only node:http understands. */
const unusual = new Set<string>();

/** Requests by connections of our own, or by node:http where a server answers in an unusual way. */
export const nodeTransport: HttpTransport = async (url, request) => {
  let at = url;
  let { headers } = request;
  for (let redirections = 0; ; redirections++) {
    const { answer, drop } = await send(new URL(at), { ...request, headers });
    const location = answer.header('location');
    const isRedirection = [301, 302, 303, 307, 308].includes(answer.status) && location !== null;
    if (!isRedirection || request.redirects === false) return answer;
    const next = new URL(location, at);
    if (request.redirects !== true && !request.redirects(next)) return answer;
    drop();
    if (redirections >= MAX_REDIRECTIONS || !isHttpUrl(next.href))
      throw new Error('a redirection leads nowhere');
    if (next.origin !== new URL(at).origin) headers = withoutPrivate(headers);
    at = next.href;
  }
};

function withoutPrivate(headers: HttpRequest['headers']): HttpRequest['headers'] {
  const rest = new Map(headers);
  for (const name of PRIVATE_HEADERS) rest.delete(name);
  return rest;
}

async function send(url: URL, request: HttpRequest): Promise<Sent> {
  if (request.method === 'GET' && !unusual.has(url.origin))
    try {
      return await sendByConnection(url, request);
    } catch (error) {
      if (!(error instanceof UnusualAnswer)) throw error;
      unusual.add(url.origin);
    }
  // Loading it takes 15 ms.
  return (await import('./http-by-node.ts')).sendByNode(url, request);
}

async function sendByConnection(url: URL, request: HttpRequest): Promise<Sent> {
  const { headers, signal } = request;
  const connection =
    takeKept(url.origin) ??
    (await HttpConnection.open(url, (closed) => forget(url.origin, closed)));
  const drop = (): void => connection.destroy();
  signal.addEventListener('abort', drop);
  if (signal.aborted) drop();
  try {
    const head = await connection.request(requestText(url, headers));
    const answer: HttpAnswer = {
      status: head.status,
      header: (name) => head.headers.get(name) ?? null,
      url: url.href,
      hidesHeaders: false,
      async receive(into, received) {
        await connection.receive(into, received);
        signal.removeEventListener('abort', drop);
        if (head.staysOpen) keep(url.origin, connection);
        else drop();
      },
    };
    return { answer, drop };
  } catch (error) {
    signal.removeEventListener('abort', drop);
    if (!(error instanceof StaleConnection) || signal.aborted) throw error;
    return sendByConnection(url, request);
  }
}

function requestText({ pathname, search, host }: URL, headers: HttpRequest['headers']): string {
  const fields = new Map(headers).set('accept-encoding', 'identity');
  if (!fields.has('host')) fields.set('host', host);
  const lines = [...fields].map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

function takeKept(origin: string): HttpConnection | undefined {
  const connections = kept.get(origin);
  const connection = connections?.pop();
  if (connections?.length === 0) kept.delete(origin);
  return connection;
}

function forget(origin: string, connection: HttpConnection): void {
  const rest = kept.get(origin)?.filter((other) => other !== connection);
  if (rest === undefined) return;
  if (rest.length > 0) kept.set(origin, rest);
  else kept.delete(origin);
}

function keep(origin: string, connection: HttpConnection): void {
  const connections = kept.get(origin) ?? [];
  if (connections.length >= MOST_KEPT) connection.destroy();
  if (!connection.isOpen) return;
  kept.set(origin, connections);
  connections.push(connection);
}
