// Runs in a page: converts as an application would.
import { convertInWorker } from '/dist/browser.js';

export const picked = (name) =>
  [...document.querySelector('#files').files].find((file) => file.name === name);

const folder = () => navigator.storage.getDirectory();

async function digest(blob) {
  const hash = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Names of the page's own files. */
export async function ownFiles() {
  const names = [];
  for await (const name of (await folder()).keys()) names.push(name);
  return names;
}

function requestOf({ name, url, files = [], ...options }) {
  const others = Object.fromEntries(files.map((other) => [other, picked(other)]));
  return { source: url ?? picked(name), files: others, ...options };
}

/** Converts to a file of the page, and to a stream; what both say, and what the file holds. */
export async function bothWays(options) {
  const request = requestOf(options);
  const handle = await (await folder()).getFileHandle('out.img', { create: true });
  const events = [];
  const onProgress = (done, total) => events.push({ done, total });
  const start = performance.now();
  const inPlace = await convertInWorker({ ...request, target: handle }, { onProgress });
  const most = (performance.now() - start) / 100 + 2;
  const held = await digest(await handle.getFile());
  await (await folder()).removeEntry('out.img');
  let announced = 0;
  let received = 0;
  const sink = new WritableStream({
    async write(piece) {
      received += piece.length;
      await new Promise((resolve) => setTimeout(resolve));
    },
  });
  const target = (length) => {
    announced = length;
    return sink;
  };
  const streamed = await convertInWorker({ ...request, target });
  return {
    digests: [inPlace.sha256, held, streamed.sha256],
    lengths: [inPlace.bytes, streamed.bytes, announced, received],
    backend: inPlace.backend,
    last: events.at(-1).done === events.at(-1).total,
    isCalm: events.length <= most,
  };
}

/** One conversion that counts what comes; also what refuses it. */
export async function count(options, how) {
  let received = 0;
  const target = new WritableStream({
    write(piece) {
      received += piece.length;
    },
  });
  try {
    const { sha256, backend, memoryBytes } = await convertInWorker(
      { ...requestOf(options), target },
      how,
    );
    return { received, sha256, backend, memoryBytes };
  } catch ({ code, message }) {
    return { code, message };
  }
}

/** The same with a kernel that the page has compiled. */
export async function countWithModule(options, how) {
  const module = await WebAssembly.compileStreaming(fetch('/dist/qcow2.wasm'));
  return count(options, { ...how, module });
}

/** Converts to a file of the page, in place by the worker or through a stream. */
export async function toFile(options, isStream) {
  const handle = await (await folder()).getFileHandle('large.img', { create: true });
  const target = isStream ? await handle.createWritable() : handle;
  const result = await convertInWorker({ ...requestOf(options), target });
  const { size } = await handle.getFile();
  await (await folder()).removeEntry('large.img');
  return { ...result, size };
}

/** Aborts when some of it is done; for how long that takes, and what is left. */
export async function abortHalfway(options, to) {
  const request = requestOf(options);
  const controller = new AbortController();
  let ended = 'not at all';
  let pieces = 0;
  const stream = new WritableStream({
    write() {
      pieces++;
    },
    abort({ code }) {
      ended = code;
    },
  });
  const file =
    to === 'file' && (await (await folder()).getFileHandle('half.img', { create: true }));
  let start = 0;
  const onProgress = (done) => {
    if (done === 0 || start > 0) return;
    start = performance.now();
    controller.abort();
  };
  const { signal } = controller;
  const work = convertInWorker({ ...request, target: file || stream }, { onProgress, signal });
  const code = await work.then(
    () => 'none',
    (error) => error.code,
  );
  const milliseconds = performance.now() - start;
  const before = pieces;
  await new Promise((resolve) => setTimeout(resolve, 300));
  return { code, milliseconds, ended, later: pieces - before, left: await ownFiles() };
}

/** A file of the page that is read is not written. */
export async function ontoItself() {
  const target = await (await folder()).getFileHandle('same.img', { create: true });
  const work = convertInWorker({ source: target, format: 'raw', target });
  const result = await work.catch(({ code, message }) => ({ code, message }));
  await (await folder()).removeEntry('same.img');
  return result;
}
