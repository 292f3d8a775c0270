import { describe, expect, test, vi } from 'vitest';

const { Image, MemoryStorage, check, convert, create, map } = await import('../../src/index.ts');

/** An image in memory, whose storage stops answering when that is wanted. */
async function makeStuck() {
  const storage = new MemoryStorage(undefined, 'disk.qcow2');
  await create(storage, { format: 'qcow2', size: 1 << 20 });
  const closed = vi.fn();
  let isStuck = false;
  const never = new Promise<never>(() => undefined);
  const stuck = {
    name: 'disk.qcow2',
    get size() {
      return storage.size;
    },
    read: (offset: number, into: Uint8Array) => (isStuck ? never : storage.read(offset, into)),
    write: (offset: number, from: Uint8Array) => (isStuck ? never : storage.write(offset, from)),
    flush: () => (isStuck ? never : undefined),
    truncate: (size: number) => storage.truncate(size),
    close: closed,
  };
  return { stuck, closed, stick: () => (isStuck = true) };
}

const ABORTED = { code: 'ABORTED', message: "the use of 'disk.qcow2' was aborted" };

/** How long a promise takes to fail as an aborted one does, in milliseconds. */
async function millisecondsToAbort(...pending: Promise<unknown>[]): Promise<number> {
  const start = performance.now();
  for (const promise of pending) await expect(promise).rejects.toMatchObject(ABORTED);
  return performance.now() - start;
}

describe('an image that is aborted', () => {
  test('while it is opened from a storage that never answers', async () => {
    const { stuck, closed, stick } = await makeStuck();
    const below = await makeStuck();
    stick();
    const { signal, abort } = controller();
    const opening = Image.open(stuck, { signal, backingFile: below.stuck });
    opening.catch(() => undefined);
    await Promise.resolve();
    setTimeout(abort, 5);
    expect(await millisecondsToAbort(opening)).toBeLessThan(100);
    await vi.waitFor(() => expect(closed).toHaveBeenCalled());
    expect(below.closed).toHaveBeenCalled();
  });

  test('before it is opened', async () => {
    const { stuck, closed } = await makeStuck();
    expect(
      await millisecondsToAbort(Image.open(stuck, { signal: AbortSignal.abort() })),
    ).toBeLessThan(100);
    await vi.waitFor(() => expect(closed).toHaveBeenCalled());
  });

  test('fails every call, pending or later, and is closed', async () => {
    const { stuck, closed, stick } = await makeStuck();
    const { signal, abort } = controller();
    const image = await Image.open(stuck, { signal, writable: true });
    await image.write(0, new Uint8Array(512).fill(1));
    stick();
    const into = new Uint8Array(512);
    const pending = [
      image.read(0, into),
      image.read(65536, into),
      image.write(131072, into),
      image.flush(),
      convert(image, new MemoryStorage(), { format: 'raw' }),
      map(image).next(),
    ];
    for (const promise of pending) promise.catch(() => undefined);
    setTimeout(abort, 5);
    expect(await millisecondsToAbort(...pending)).toBeLessThan(100);
    expect(closed).toHaveBeenCalledOnce();
    const later = [image.read(0, into), image.flush(), image.snapshots(), image.chain()];
    for (const promise of later) promise.catch(() => undefined);
    expect(await millisecondsToAbort(...later)).toBeLessThan(100);
    await image.close();
    expect(closed).toHaveBeenCalledOnce();
  });

  test('while it is closed', async () => {
    const { stuck, closed, stick } = await makeStuck();
    const { signal, abort } = controller();
    const image = await Image.open(stuck, { signal, writable: true });
    await image.write(0, new Uint8Array(512).fill(1));
    stick();
    const closing = image.close();
    closing.catch(() => undefined);
    setTimeout(abort, 5);
    expect(await millisecondsToAbort(closing)).toBeLessThan(100);
    expect(closed).not.toHaveBeenCalled();
  });

  test('after it was closed is none', async () => {
    const { stuck, closed } = await makeStuck();
    const { signal, abort } = controller();
    {
      await using image = await Image.open(stuck, { signal });
      await image.read(0, new Uint8Array(512));
    }
    abort();
    expect(closed).toHaveBeenCalledOnce();
  });
});

test('waiting keeps nothing of what has ended', async () => {
  const { AbortWatch } = await import('../../src/image/abort.ts');
  const { signal, abort } = controller();
  const watch = new AbortWatch(signal, 'x');
  for (let i = 0; i < 1000; i++) expect(await watch.race(Promise.resolve(i))).toBe(i);
  await expect(watch.race(Promise.reject(new Error('own')))).rejects.toThrow('own');
  abort();
  watch.end();
  await expect(watch.race(Promise.resolve(1))).rejects.toMatchObject({ code: 'ABORTED' });
});

describe('a handle of a file', () => {
  const open = (getFile: () => Promise<Blob>) => ({ name: 'disk.img', getFile });

  test('is read, in every place of an image', async () => {
    const blob = new Blob([new Uint8Array(1024).fill(7)]);
    const overlay = new MemoryStorage();
    await create(overlay, {
      format: 'qcow2',
      size: 1024,
      backingFile: 'disk.img',
      backingFormat: 'raw',
    });
    const resolver = () => open(async () => blob);
    for (const options of [{ resolver }, { backingFile: resolver() }]) {
      await using image = await Image.open(overlay.bytes, options);
      const into = new Uint8Array(1024);
      await image.read(0, into);
      expect(into.every((byte) => byte === 7)).toBe(true);
    }
    const qcow2 = new Blob([overlay.bytes.slice()]);
    expect(await check(open(async () => qcow2), { resolver })).toMatchObject({ corruptions: 0 });
  });

  test('whose file is gone is told in one line', async () => {
    const gone = open(() => Promise.reject(new Error('A requested file could not be found')));
    await expect(Image.open(gone)).rejects.toMatchObject({
      code: 'IO',
      message: "Could not open 'disk.img': A requested file could not be found",
    });
  });
});

function controller(): { signal: AbortSignal; abort: () => void } {
  const own = new AbortController();
  return { signal: own.signal, abort: () => own.abort() };
}
