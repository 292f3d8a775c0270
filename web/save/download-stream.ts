import type { DownloadMessage, DownloadReply } from './download-messages.ts';

/** For so long the browser may take to ask for a download, in milliseconds. */
const MOST_MILLISECONDS = 10_000;
/** Bytes of nearly all pieces. */
const MEMORY_BYTES = 2 * 1024 * 1024;
/** Browsers end a service worker that hears nothing for about 30 seconds. */
const STAY_MILLISECONDS = 10_000;

let registered: Promise<ServiceWorker | undefined> | undefined;

/**
 * The service worker, ready for downloads; undefined where there can be none. The page calls it when it
 * is loaded, so that it works without a network from then on.
 */
export function serviceWorker(): Promise<ServiceWorker | undefined> {
  registered ??= register();
  return registered;
}

async function register(): Promise<ServiceWorker | undefined> {
  // Not in all contexts, and not in private windows of all browsers.
  if (!('serviceWorker' in navigator)) return undefined;
  try {
    const url = new URL('service-worker.js', document.baseURI);
    const { active, installing, waiting } = await navigator.serviceWorker.register(url);
    const worker = active ?? waiting ?? installing;
    if (worker) await activated(worker);
    return worker ?? undefined;
  } catch {
    return undefined;
  }
}

function activated(worker: ServiceWorker): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (worker.state === 'activated') resolve();
      if (worker.state === 'redundant') reject(new Error('the service worker was not installed'));
    };
    worker.addEventListener('statechange', look);
    look();
  });
}

/**
 * Has the browser download a file whose bytes are written to the stream that is returned. Each piece
 * waits until the browser wants it; the stream holds none of what was written.
 * @param length of the file, in bytes
 * @throws Error the browser does not ask for it
 */
export async function openDownload(
  worker: ServiceWorker,
  name: string,
  length: number,
): Promise<WritableStream<Uint8Array<ArrayBuffer>>> {
  const download = new Download(worker);
  await download.begin(name, length);
  return download.stream();
}

class Download {
  readonly #worker: ServiceWorker;
  readonly #port: MessagePort;
  readonly #given: MessagePort;
  readonly #frame = document.createElement('iframe');
  readonly #url = new URL(`download/${crypto.randomUUID()}`, document.baseURI).href;
  readonly #stay: ReturnType<typeof setInterval>;
  /** Pieces the browser wants. */
  #wanted = 0;
  #isCancelled = false;
  readonly #free: ArrayBuffer[] = [];
  #wake: () => void = () => undefined;

  constructor(worker: ServiceWorker) {
    const { port1, port2 } = new MessageChannel();
    this.#worker = worker;
    this.#port = port1;
    this.#given = port2;
    this.#stay = setInterval(() => this.#tell({ kind: 'stay' }), STAY_MILLISECONDS);
  }

  begin(name: string, length: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end();
        reject(new Error('the browser did not begin the download'));
      }, MOST_MILLISECONDS);
      this.#port.onmessage = ({ data }: MessageEvent<DownloadReply>) => {
        if (data.kind === 'ready') this.#ask();
        if (data.kind === 'pull') this.#pull(data.memory);
        if (data.kind === 'cancelled') this.#isCancelled = true;
        this.#wake();
        if (data.kind !== 'begun') return;
        clearTimeout(timer);
        resolve();
      };
      const url = this.#url;
      this.#tell({ kind: 'download', url, name, length, port: this.#given }, [this.#given]);
    });
  }

  stream(): WritableStream<Uint8Array<ArrayBuffer>> {
    const send = (message: DownloadMessage, transfer: Transferable[] = []): void =>
      this.#port.postMessage(message, transfer);
    return new WritableStream({
      write: async (piece) => {
        await this.#untilWanted();
        this.#wanted--;
        const copy = this.#copy(piece);
        send({ kind: 'piece', piece: copy }, [copy.buffer]);
      },
      close: async () => {
        // What was sent was taken.
        await this.#untilWanted();
        send({ kind: 'end' });
        this.#end();
      },
      abort: (reason) => {
        send({ kind: 'abort', reason: String(reason) });
        this.#end();
      },
    });
  }

  #pull(memory: ArrayBuffer | undefined): void {
    this.#wanted++;
    if (memory?.byteLength === MEMORY_BYTES) this.#free.push(memory);
  }

  /** In memory that is used again, if it is large enough: what is new each time piles up. */
  #copy(piece: Uint8Array): Uint8Array<ArrayBuffer> {
    const memory =
      piece.length > MEMORY_BYTES
        ? new ArrayBuffer(piece.length)
        : (this.#free.pop() ?? new ArrayBuffer(MEMORY_BYTES));
    const copy = new Uint8Array(memory, 0, piece.length);
    copy.set(piece);
    return copy;
  }

  async #untilWanted(): Promise<void> {
    while (this.#wanted === 0 && !this.#isCancelled)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    if (!this.#isCancelled) return;
    this.#end();
    throw new Error('the download was cancelled');
  }

  /** A frame, so that the page stays where it is. */
  #ask(): void {
    this.#frame.hidden = true;
    this.#frame.src = this.#url;
    document.body.append(this.#frame);
  }

  #tell(message: DownloadMessage, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #end(): void {
    clearInterval(this.#stay);
    // The browser may not have read the last bytes yet: a frame that goes takes its download with it.
    setTimeout(() => this.#frame.remove(), MOST_MILLISECONDS);
  }
}
