// Runs in a worker of a page: files of the page's own, written and read in place.
import { check, compare, convert, create, Image, OpfsStorage } from '/dist/index.js';

async function storageOf(name) {
  const folder = await navigator.storage.getDirectory();
  return OpfsStorage.open(await folder.getFileHandle(name, { create: true }));
}

/** Converts a file into one of the page's own, writes into it, and compares; what became of it. */
async function inPlace(file) {
  const target = await storageOf('disk.qcow2');
  target.truncate(0);
  const source = await Image.open(file);
  await convert(source, target, { format: 'qcow2', compress: true });
  const image = await Image.open(target, { writable: true });
  const { identical } = await compare(source, image);
  await image.write(65536, new Uint8Array(100_000).fill(9));
  await image.flush();
  const read = new Uint8Array(100_002);
  await image.read(65535, read);
  await image.close();
  const again = await Image.open(await storageOf('disk.qcow2'));
  const last = new Uint8Array(1);
  await again.read(165_535, last);
  const { corruptions, leaks } = await check(again);
  await again.close();
  await source.close();
  return {
    identical,
    corruptions,
    leaks,
    nines: read.subarray(1, 100_001).every((byte) => byte === 9),
    last: last[0],
  };
}

/** What a second opening of an open file, and reading one that is closed, say. */
async function refusals() {
  const storage = await storageOf('other.qcow2');
  await create(storage, { format: 'qcow2', size: 1 << 20 });
  const message = (promise) =>
    promise.then(
      () => 'none',
      ({ message, code }) => `${code}: ${message}`,
    );
  const twice = await message(storageOf('other.qcow2'));
  storage.close();
  const closed = await message((async () => storage.read(0, new Uint8Array(1)))());
  return { twice, closed };
}

self.onmessage = ({ data }) => {
  const work = data.file ? inPlace(data.file) : refusals();
  work.then(
    (result) => postMessage({ result }),
    (error) => postMessage({ error: String(error.stack ?? error) }),
  );
};
