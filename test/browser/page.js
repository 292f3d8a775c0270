// Runs in a page: examines images as an application would, with nothing but the built package.
import * as qcow2 from '/dist/index.js';

/** @param {Uint8Array} bytes */
async function sha256(bytes) {
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A picked file, or the bytes of the file on the server. */
async function sourceOf(name, { folder, from }) {
  if (from === 'bytes') {
    const response = await fetch(new URL(`/images/${folder}/${name}`, import.meta.url));
    return new Uint8Array(await response.arrayBuffer());
  }
  const { files } = document.querySelector('#files');
  return [...files].find((file) => file.name === name);
}

async function openOptions(request) {
  const { dataFile, backingFiles = [], snapshot, backend } = request;
  const options = { kernel: qcow2.createKernel({ backend }) };
  if (dataFile !== undefined) options.dataFile = await sourceOf(dataFile, request);
  if (snapshot !== undefined) options.snapshot = snapshot;
  let below;
  for (const name of backingFiles.toReversed()) {
    const source = await sourceOf(name, request);
    below = below === undefined ? source : { source, backingFile: below };
  }
  if (below !== undefined) options.backingFile = below;
  return options;
}

/** Digest of what an image is converted to, once that has been found to be the same disk. */
async function converted(image, options) {
  const target = new qcow2.MemoryStorage();
  const progress = [];
  const onProgress = (done, total) => progress.push(done / total);
  await qcow2.convert(image, target, { ...options, onProgress });
  if (progress.at(-1) !== 1) throw new Error(`progress ended at ${progress.at(-1)}`);
  const copy = await qcow2.Image.open(target.bytes, { format: options.format });
  const { identical } = await qcow2.compare(image, copy);
  if (!identical) throw new Error(`${options.format} reads otherwise than its source`);
  return sha256(target.bytes);
}

/** Digest of an image as a response to a request would carry it. */
async function streamed(image) {
  const { length, stream } = await qcow2.toReadable(image, { format: 'qcow2', compress: true });
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (bytes.length !== length) throw new Error(`${bytes.length} bytes came, not ${length}`);
  return sha256(bytes);
}

async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

/** Everything a page can ask of an image. */
export async function examine(request) {
  const source = await sourceOf(request.image, request);
  const image = await qcow2.Image.open(source, await openOptions(request));
  try {
    return {
      backend: image.kernel.backend,
      info: await qcow2.info(image),
      map: await all(qcow2.map(image)),
      check: await qcow2.check(image),
      measure: await qcow2.measure(image, { format: 'qcow2' }),
      raw: await converted(image, { format: 'raw' }),
      qcow2: await converted(image, { format: 'qcow2' }),
      streamed: await streamed(image),
      compressed: await converted(image, { format: 'qcow2', compress: true }),
    };
  } finally {
    await image.close();
  }
}

/** Converts to a file of the page's own, and says what is in it then. */
export async function saved(request) {
  const folder = await navigator.storage.getDirectory();
  const handle = await folder.getFileHandle('saved.qcow2', { create: true });
  const image = await qcow2.Image.open(await sourceOf(request.image, request));
  const target = new qcow2.StreamStorage(await handle.createWritable(), handle.name);
  await qcow2.convert(image, target, { format: 'qcow2' });
  const before = (await handle.getFile()).size;
  await target.close();
  await image.close();
  const file = await handle.getFile();
  return { before, digest: await sha256(await file.arrayBuffer()) };
}

/** What the page is allowed and given. */
export async function surroundings() {
  return {
    isolated: crossOriginIsolated,
    sharedMemory: typeof SharedArrayBuffer,
    backend: qcow2.createKernel().backend,
    exports: Object.keys(qcow2).sort(),
  };
}

/** Opens what cannot be opened, and stops what has begun; the codes of the errors. */
export async function errors() {
  const codeOf = (promise) =>
    promise.then(
      () => 'none',
      (error) => (qcow2.isQcow2Error(error) ? error.code : String(error)),
    );
  const disk = await qcow2.Image.open(new Blob([new Uint8Array(8 << 20).fill(1)]));
  const stop = new AbortController();
  const onProgress = () => stop.abort();
  const target = new qcow2.MemoryStorage();
  return {
    path: await codeOf(qcow2.Image.open('disk.qcow2')),
    notQcow2: await codeOf(qcow2.Image.open(new Uint8Array(512), { format: 'qcow2' })),
    aborted: await codeOf(
      qcow2.convert(disk, target, { format: 'qcow2', onProgress, signal: stop.signal }),
    ),
    readOnly: await codeOf(
      qcow2.convert(disk, new qcow2.BlobStorage(new Blob([])), { format: 'raw' }),
    ),
  };
}

/** An overlay whose backing file nobody has given. */
export async function refused(request) {
  const image = await qcow2.Image.open(await sourceOf(request.image, request));
  const error = await image.read(0, new Uint8Array(512)).catch((thrown) => thrown);
  await image.close();
  return { code: error.code, file: error.details.file };
}

/** The backend of a module the page has compiled itself. */
export async function initialised() {
  qcow2.init(await WebAssembly.compileStreaming(fetch('/dist/qcow2.wasm')));
  return qcow2.createKernel().backend;
}

/** Calls a function of this module in a worker of its own. */
export async function inWorker(name, request) {
  const code = `import('${import.meta.url}').then((m) => m.${name}(${JSON.stringify(request)}))
    .then((result) => postMessage({ result }), (error) => postMessage({ error: String(error.stack) }));`;
  const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  const worker = new Worker(url, { type: 'module' });
  const { data } = await new Promise((resolve, reject) => {
    worker.onmessage = resolve;
    worker.onerror = (event) => reject(new Error(event.message));
  });
  worker.terminate();
  if (data.error !== undefined) throw new Error(data.error);
  return data.result;
}

/** Reads an image on another server by ranges; what that server lets a page see is little. */
export async function overHttp(url) {
  const storage = await qcow2.HttpStorage.open(url);
  const image = await qcow2.Image.open(storage, { resolver: qcow2.httpResolver(url) });
  const target = new qcow2.MemoryStorage();
  await qcow2.convert(image, target, { format: 'raw' });
  await image.close();
  return sha256(target.bytes);
}
