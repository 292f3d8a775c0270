import { Qcow2Error } from '../errors.ts';
import { Image } from '../image/image.ts';
import { convert } from '../operations/convert.ts';
import type { ConvertOptions } from '../operations/convert-options.ts';
import { create } from '../operations/create.ts';
import type { ImageTarget, WritableStorage } from '../operations/target.ts';
import { MemoryStorage } from '../storage/memory.ts';
import { DiskStorage } from './disk-storage.ts';
import { SectorCache } from './sector-cache.ts';

/** How a disk is given to the emulator. */
export interface V86DiskOptions {
  /**
   * Where what the guest writes is kept, as a qcow2 image: an empty storage, or one that an earlier
   * disk over the same image has left. Default memory.
   */
  overlay?: WritableStorage;
  /**
   * Told when the disk could not be read or written: the guest waits for ever then, since the emulator
   * knows no answer for it. Default: the error is thrown from a task of its own.
   */
  onError?: (error: unknown) => void;
}

/** What of the disk is saved, and how. */
export interface V86SaveOptions extends Pick<ConvertOptions, 'compress' | 'onProgress' | 'signal'> {
  /**
   * Saves an overlay with only what the guest wrote, that names this file as its backing file. Absent:
   * the whole disk is saved.
   */
  backingFile?: string;
  /** Format of the backing file. Default that of the image the disk was made of. */
  backingFormat?: 'qcow2' | 'raw';
}

/**
 * A disk for the x86 emulator v86: an object it takes as `hda`. The image is read where the guest
 * reads, and never written; what the guest writes goes into an overlay. Offsets and lengths of the
 * emulator's calls are in bytes, multiples of 512.
 */
export class V86Disk {
  /** Length of the disk in bytes. */
  readonly byteLength: number;
  /** Set by the emulator. */
  onload: ((loaded: object) => void) | undefined;
  /** Set by the emulator; never called, since nothing is loaded ahead. */
  onprogress: ((progress: object) => void) | undefined;
  readonly #image: Image;
  readonly #storage: WritableStorage;
  readonly #cache: SectorCache;
  readonly #report: (error: unknown) => void;
  #overlay: Image;
  #turn: Promise<unknown> = Promise.resolve();
  /** Writes of the guest the overlay has not taken yet. */
  #writing = 0;
  /** Whether the overlay's tables may still be on their way. */
  #isFlushed = true;

  private constructor(
    image: Image,
    storage: WritableStorage,
    overlay: Image,
    report: (error: unknown) => void,
  ) {
    this.#image = image;
    this.#storage = storage;
    this.#overlay = overlay;
    this.#report = report;
    this.byteLength = image.virtualSize;
    this.#cache = new SectorCache(this.byteLength);
  }

  /** See {@link toV86Disk}. */
  static async over(image: Image, options: V86DiskOptions): Promise<V86Disk> {
    const { overlay: storage = new MemoryStorage(undefined, 'overlay'), onError = throwLater } =
      options;
    if (storage.size === 0) {
      // The name is never looked up: what lies below is given when the overlay is opened.
      const backing = { backingFile: 'disk', backingFormat: 'raw' } as const;
      await create(storage, { format: 'qcow2', size: image.virtualSize, ...backing });
    }
    const overlay = await openOverlay(storage, image);
    if (overlay.virtualSize === image.virtualSize)
      return new V86Disk(image, storage, overlay, onError);
    await overlay.close();
    const text = `the overlay holds a disk of ${overlay.virtualSize} bytes and the image one of ${image.virtualSize}: it belongs to another image`;
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }

  /** Tells the emulator that the disk is ready. */
  load(): void {
    this.onload?.({});
  }

  /** Reads, and hands the bytes to `done`. */
  get(
    offset: number,
    length: number,
    done: (bytes: Uint8Array) => void,
    options?: { signal?: AbortSignal },
  ): void {
    this.#run(async () => {
      const bytes = await this.#read(offset, length);
      if (!options?.signal?.aborted) done(bytes);
    });
  }

  /** As `get`; `get_from_cache` knows the bytes afterwards. */
  get_and_cache(
    offset: number,
    length: number,
    done: (bytes: Uint8Array) => void,
    options?: { signal?: AbortSignal },
  ): void {
    this.get(offset, length, done, options);
  }

  /** Bytes that were read or written before, at once; undefined for others. */
  get_from_cache(offset: number, length: number): Uint8Array | undefined {
    return this.#writing === 0 ? this.#cache.copy(offset, length) : undefined;
  }

  /** Writes into the overlay; `bytes` may be reused when `done` is called. */
  set(offset: number, bytes: Uint8Array, done: () => void): void {
    this.#writing++;
    this.#run(async () => {
      this.#isFlushed = false;
      await this.#overlay.write(offset, bytes);
      this.#cache.update(offset, bytes);
      this.#writing--;
      done();
    });
  }

  /** The disk is not in memory as a whole: nothing is handed over. */
  get_buffer(done: (buffer?: ArrayBuffer) => void): void {
    done();
  }

  /**
   * What the emulator keeps of the disk in a saved state: the overlay.
   * @throws Qcow2Error UNSUPPORTED: the overlay is not in memory; REFUSED: call `flush` first
   */
  get_state(): [number, Uint8Array] {
    const storage = this.#storage;
    if (!(storage instanceof MemoryStorage)) {
      const text =
        'the state of a disk is its overlay, which is not in memory: save the state without the disk, or keep the overlay in memory';
      throw new Qcow2Error('UNSUPPORTED', text);
    }
    if (this.#writing > 0 || !this.#isFlushed) {
      const text =
        'the guest is still writing: stop it and await flush() before its state is saved';
      throw new Qcow2Error('REFUSED', text);
    }
    return [this.byteLength, storage.bytes.slice()];
  }

  /**
   * Goes back to a saved state of the same disk.
   * @throws Qcow2Error INVALID_ARGUMENT: it is of a disk of another length; UNSUPPORTED: the overlay is
   *   not in memory
   */
  set_state([byteLength, saved]: [number, Uint8Array]): void {
    const storage = this.#storage;
    if (byteLength !== this.byteLength) {
      const text = `the saved state is of a disk of ${byteLength} bytes, this one has ${this.byteLength}`;
      throw new Qcow2Error('INVALID_ARGUMENT', text);
    }
    if (!(storage instanceof MemoryStorage)) {
      const text = 'a saved state is restored into an overlay in memory: leave out the overlay';
      throw new Qcow2Error('UNSUPPORTED', text);
    }
    // The emulator hands its own memory over.
    const bytes = saved.slice();
    this.#run(async () => {
      await this.#overlay.close();
      storage.truncate(0);
      storage.write(0, bytes);
      this.#overlay = await openOverlay(storage, this.#image);
      this.#isFlushed = true;
      this.#cache.clear();
    });
  }

  /**
   * The overlay holds everything the guest has written so far when this settles.
   * @throws Qcow2Error as `Image.flush`
   */
  flush(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#overlay.flush();
      this.#isFlushed = true;
    });
  }

  /**
   * Writes the disk as it is now to a qcow2 image: as a whole, or with `backingFile` what the guest
   * changed. The emulator waits meanwhile.
   * @throws Qcow2Error as `convert`
   */
  save(target: WritableStorage | ImageTarget, options: V86SaveOptions = {}): Promise<void> {
    const { backingFile, backingFormat = this.#image.format, ...control } = options;
    const names = backingFile === undefined ? {} : { backingFile, backingFormat };
    return this.#inTurn(() =>
      convert(this.#overlay, target, { format: 'qcow2', create: names, ...control }),
    );
  }

  /** Flushes and closes the overlay; the image stays open. */
  close(): Promise<void> {
    return this.#inTurn(() => this.#overlay.close());
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    for (const [start, end] of this.#cache.missing(offset, length)) {
      const bytes = new Uint8Array(end - start);
      await this.#overlay.read(start, bytes);
      this.#cache.fill(start, bytes);
    }
    const cached = this.#cache.copy(offset, length);
    if (cached) return cached;
    // More than the cache holds at a time.
    const bytes = new Uint8Array(length);
    await this.#overlay.read(offset, bytes);
    return bytes;
  }

  /** A call of the emulator, which waits for no promise. */
  #run(work: () => Promise<void>): void {
    this.#inTurn(work).catch(this.#report);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function openOverlay(storage: WritableStorage, image: Image): Promise<Image> {
  const disk = { source: new DiskStorage(image), format: 'raw' } as const;
  return Image.open(storage, { writable: true, format: 'qcow2', backingFile: disk });
}

function throwLater(error: unknown): void {
  setTimeout(() => {
    throw error;
  });
}

/**
 * A disk that the emulator v86 takes as `hda`. The image stays the caller's.
 * @throws Qcow2Error INVALID_ARGUMENT: the overlay belongs to a disk of another length; those of
 *   opening and creating an image
 * @example
 * import { openAsBlob } from 'node:fs';
 * import { Image, MemoryStorage } from 'qcow2';
 * import { toV86Disk } from 'qcow2/v86';
 *
 * const image = await Image.open(await openAsBlob('disk.qcow2')); // or a File that a person picked
 * const hda = await toV86Disk(image);
 * // const emulator = new V86({ bios, vga_bios, hda, autostart: true });
 *
 * const saved = new MemoryStorage();
 * await hda.save(saved, { backingFile: 'disk.qcow2' }); // an overlay with what the guest wrote
 * await hda.close();
 * await image.close();
 */
export function toV86Disk(image: Image, options: V86DiskOptions = {}): Promise<V86Disk> {
  return V86Disk.over(image, options);
}
