/** Where files are that the browser is to copy to the downloads; each under an id of its own. */
const FOLDER = 'saved';

/**
 * The least time that the browser is given to copy a file, and the least speed, in bytes per
 * millisecond: nothing tells the page when it is done.
 */
const COPY_MILLISECONDS = 60_000;
const COPY_SPEED = 5_000;

/**
 * A file of the page's own, which is written first and then handed to the browser as a download. It
 * takes its space twice while it is copied, and no memory. A lock tells whose page is still there: what
 * a closed tab or a crash has left is removed by the next page.
 */
export class OwnFile {
  /** Writes it. What is aborted is removed. */
  readonly stream: WritableStream<Uint8Array<ArrayBuffer>>;
  readonly #file: FileSystemWritableFileStream;
  readonly #folder: FileSystemDirectoryHandle;
  readonly #handle: FileSystemFileHandle;
  readonly #unlock: () => void;

  private constructor(
    file: FileSystemWritableFileStream,
    folder: FileSystemDirectoryHandle,
    handle: FileSystemFileHandle,
    unlock: () => void,
  ) {
    this.#file = file;
    this.#folder = folder;
    this.#handle = handle;
    this.#unlock = unlock;
    this.stream = new WritableStream({
      write: (piece) => file.write(piece),
      close: () => file.close(),
      abort: () => this.remove(),
    });
  }

  /**
   * @param length of the file, in bytes
   * @returns undefined: the browser has no such files here (as in private windows), or no room for it
   */
  static async create(length: number): Promise<OwnFile | undefined> {
    await removeLeftFiles();
    const folder = await ownFolder();
    if (folder === undefined || !(await hasRoom(length))) return undefined;
    const id = crypto.randomUUID();
    const unlock = await lockFor(id);
    const handle = await folder.getFileHandle(id, { create: true });
    return new OwnFile(await handle.createWritable(), folder, handle, unlock);
  }

  /** Hands over what was written; removes it when it must have been copied. */
  async offer(name: string): Promise<void> {
    const file = await this.#handle.getFile();
    const url = URL.createObjectURL(file);
    Object.assign(document.createElement('a'), { href: url, download: name }).click();
    const removeBoth = (): void => {
      URL.revokeObjectURL(url);
      this.remove();
    };
    setTimeout(removeBoth, COPY_MILLISECONDS + file.size / COPY_SPEED);
  }

  async remove(): Promise<void> {
    // What is being written cannot be removed.
    await this.#file.abort().catch(() => undefined);
    await removeFile(this.#folder, this.#handle.name);
    this.#unlock();
  }
}

/** Removes files whose page is gone. */
export async function removeLeftFiles(): Promise<void> {
  const folder = await ownFolder();
  if (folder === undefined) return;
  const ids: string[] = [];
  for await (const id of folder.keys()) ids.push(id);
  for (const id of ids)
    await navigator.locks.request(lockName(id), { ifAvailable: true }, async (lock) => {
      if (lock) await removeFile(folder, id);
    });
}

/** What the system does not let go of yet, the next page removes. */
async function removeFile(folder: FileSystemDirectoryHandle, id: string): Promise<void> {
  await folder.removeEntry(id).catch(() => undefined);
}

/** Asks the person where it must: Firefox gives a page 10 GiB at most, but half of the disk if allowed. */
async function hasRoom(length: number): Promise<boolean> {
  const isEnough = async (): Promise<boolean> => {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    return quota - usage >= length;
  };
  return (await isEnough()) || ((await navigator.storage.persist()) && (await isEnough()));
}

/** Undefined where there are no such files, or none that can be written without a worker. */
async function ownFolder(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    if (!('createWritable' in FileSystemFileHandle.prototype)) return undefined;
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return undefined;
  }
}

function lockName(id: string): string {
  return `${FOLDER}/${id}`;
}

/** Held until what is returned is called, or until the page is gone. */
function lockFor(id: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const held = (): Promise<void> => new Promise(resolve);
    navigator.locks.request(lockName(id), held).catch(reject);
  });
}
