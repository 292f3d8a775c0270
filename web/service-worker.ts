// Serves the page when there is no network, and downloads whose bytes the page makes. Requests to other
// hosts, and what is neither, are left alone.
import { contentDisposition } from './save/content-disposition.ts';
import type { DownloadMessage, DownloadReply, DownloadStart } from './save/download-messages.ts';

/** What is used of a `ServiceWorkerGlobalScope`. */
interface Scope {
  readonly registration: { readonly scope: string };
  addEventListener(type: 'install' | 'activate', listener: (event: Extendable) => void): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchRequest) => void): void;
}

interface Extendable {
  waitUntil(work: Promise<unknown>): void;
}

interface FetchRequest {
  readonly request: Request;
  respondWith(response: Promise<Response> | Response): void;
}

/** Put in when the page is built: its files, relative to the scope, and a digest of them all. */
interface Build {
  version: string;
  files: string[];
}

const build: Build = JSON.parse(decodeURIComponent('%OFFLINE_BUILD%'));
const CACHE_PREFIX = 'qcow2-page-';
const CACHE = `${CACHE_PREFIX}${build.version}`;

const scope = globalThis as unknown as Scope;
const { scope: base } = scope.registration;
const cached = new Set(build.files.map((file) => new URL(file, base).href));

/** Downloads that were announced and not asked for yet, by their URL. */
const downloads = new Map<string, DownloadStart>();

scope.addEventListener('install', (event) => {
  // Past the cache of the browser: it may hold files of another build under the same names.
  const requests = [...cached].map((url) => new Request(url, { cache: 'reload' }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

scope.addEventListener('activate', (event) => {
  event.waitUntil(removeOlder());
});

async function removeOlder(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith(CACHE_PREFIX) && name !== CACHE) await caches.delete(name);
}

scope.addEventListener('message', ({ data }: MessageEvent<DownloadMessage>) => {
  // Other messages keep this worker from being put to sleep while a download is under way.
  if (data.kind !== 'download') return;
  downloads.set(data.url, data);
  data.port.postMessage({ kind: 'ready' } satisfies DownloadReply);
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(base)) return;
  const download = downloads.get(request.url);
  if (download) {
    downloads.delete(request.url);
    event.respondWith(answer(download));
    return;
  }
  const [url = ''] = request.url.split(/[?#]/, 1);
  const file = url === base ? `${base}index.html` : url;
  if (cached.has(file)) event.respondWith(fromCache(file, request));
});

async function fromCache(file: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(file)) ?? fetch(request);
}

/** So many pieces stay untouched behind the one that is asked for: the browser reads one at a time. */
const PIECES_KEPT = 2;

/** A response whose bytes come through the port, as they are asked for. */
function answer({ port, name, length }: DownloadStart): Response {
  const tell = (reply: DownloadReply, transfer: Transferable[] = []): void =>
    port.postMessage(reply, transfer);
  const kept: ArrayBuffer[] = [];
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        port.onmessage = ({ data }: MessageEvent<DownloadMessage>) => {
          if (data.kind === 'piece') {
            controller.enqueue(data.piece);
            kept.push(data.piece.buffer);
          }
          if (data.kind === 'end') controller.close();
          if (data.kind === 'abort') controller.error(new Error(data.reason));
        };
        tell({ kind: 'begun' });
      },
      pull() {
        const memory = kept.length > PIECES_KEPT ? kept.shift() : undefined;
        tell({ kind: 'pull', memory }, memory ? [memory] : []);
      },
      cancel: () => tell({ kind: 'cancelled' }),
    },
    // A piece is asked for when the one before was taken.
    { highWaterMark: 0 },
  );
  const headers = {
    'Content-Type': 'application/octet-stream',
    'Content-Length': String(length),
    'Content-Disposition': contentDisposition(name),
    'Content-Security-Policy': "default-src 'none'",
    'X-Content-Type-Options': 'nosniff',
  };
  return new Response(body, { headers });
}
