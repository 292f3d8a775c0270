import { Qcow2Error } from '../errors.ts';

/** How the worker is started. */
export interface WorkerPlace {
  /**
   * `blob` (the default): from a blob that imports the package's worker file by its URL, which may be on
   * another server. `file`: from that file itself, for pages whose content security policy has no
   * `worker-src blob:`; the file must be on the page's own server then.
   */
  worker?: 'blob' | 'file';
  /**
   * Where the file `qcow2/browser-worker.js` of the package is. Default: beside the module that this function
   * is in, as bundlers lay them out.
   */
  workerUrl?: string | URL;
}

/** What bundlers copy as it is: the file needs no other. */
const WORKER_FILE = new URL('./browser/worker.js', import.meta.url);

/** A new worker; that it cannot be started shows as an `error` event. */
export function startWorker({ worker = 'blob', workerUrl = WORKER_FILE }: WorkerPlace): Worker {
  const options = { type: 'module', name: 'qcow2' } as const;
  if (worker === 'file') return new Worker(workerUrl, options);
  const { href } = new URL(workerUrl, location.href);
  const blob = new Blob([`import ${JSON.stringify(href)};`], { type: 'text/javascript' });
  const url = URL.createObjectURL(blob);
  const started = new Worker(url, options);
  // It has been fetched when the worker says something, which it does before anything else.
  const forget = (): void => URL.revokeObjectURL(url);
  started.addEventListener('message', forget, { once: true });
  started.addEventListener('error', forget, { once: true });
  return started;
}

/** @param event what the worker's `error` event tells; nothing when the worker could not be loaded */
export function workerFailure(event: Partial<ErrorEvent>): Qcow2Error {
  const why = event.message || 'it could not be loaded';
  const text = `The worker failed: ${why}; check that its file can be fetched and that the content security policy allows it (worker-src blob:, or worker: 'file')`;
  return new Qcow2Error('IO', text);
}
