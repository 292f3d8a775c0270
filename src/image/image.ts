import { loadCodec } from '../codecs/load.ts';
import { Qcow2Error } from '../errors.ts';
import type { BitmapDirectoryEntry } from '../format/bitmap-directory.ts';
import type { LuksHeader } from '../format/luks-header.ts';
import type { Snapshot } from '../format/snapshot-table.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { type ImageSource, storageOf } from '../storage/source.ts';
import type { Storage } from '../storage/storage.ts';
import { AbortWatch } from './abort.ts';
import { type Chain, type GivenFiles, openChain } from './backing-chain.ts';
import { closeGiven, givenFiles } from './given-files.ts';
import { requireOnDisk } from './guest-range.ts';
import { findSnapshot, probe } from './identify.ts';
import {
  type Metadata,
  readBitmaps,
  readLuksHeader,
  readMetadata,
  readSnapshots,
} from './metadata.ts';
import type { Preallocation } from './new-image.ts';
import type { OutsideResolver } from './open-gate.ts';
import type { OpenOptions, WriteZeroesOptions } from './open-options.ts';
import { Plan } from './plan.ts';
import type { Step } from './preallocation.ts';
import { canPrefetch, prefetchPlan } from './prefetch.ts';
import { wholeSectors } from './raw-layer.ts';
import type { RecordedBacking } from './recorded-backing.ts';
import { Turns } from './turns.ts';
import type { WritableDisk } from './writable-disk.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';
import { notWritable, requireReady, WritingOnDemand } from './writing-on-demand.ts';

/** Memory for the tables of an image that is written: those of 256 GiB with clusters of 64 KiB. */
const CACHE_BYTES = 32 * 1024 * 1024;

/** Guest bytes mapped and read at once by `read`. */
const READ_BYTES = 2 * 1024 * 1024;

/**
 * An open disk image: a qcow2 or raw file and, once data is asked for, the files below it. Reading
 * and writing are safe to call concurrently; calls are served one after the other, and each sees what
 * those before it wrote. All offsets and lengths are in bytes. `await using` closes it.
 * @example
 * import { openAsBlob } from 'node:fs';
 * import { Image } from 'qcow2';
 *
 * const overlay = await openAsBlob('overlay.qcow2'); // or a File that a person picked
 * const disk = await openAsBlob('disk.qcow2');
 * const image = await Image.open(overlay, { backingFile: disk });
 * try {
 *   const sector = new Uint8Array(512);
 *   await image.read(image.virtualSize - sector.length, sector);
 * } finally {
 *   await image.close();
 * }
 */
export class Image {
  readonly format: 'qcow2' | 'raw';
  /** The image file itself. */
  readonly storage: Storage;
  readonly #cacheBytes: number | undefined;
  readonly #layers: number | undefined;
  readonly #writing: WritingOnDemand;
  #kernel: Kernel | undefined;
  #rawSize: number;
  readonly #given: GivenFiles;
  readonly #resolver: OutsideResolver | undefined;
  readonly #snapshot: Snapshot | undefined;
  readonly #plan = new Plan();
  readonly #watch: AbortWatch;
  #chain: Promise<Chain> | undefined;
  readonly #turns: Turns;
  #closing: Promise<void> | undefined;

  private constructor(
    storage: Storage,
    given: GivenFiles,
    options: OpenOptions,
    metadata: Metadata | undefined,
    snapshot: Snapshot | undefined,
    watch: AbortWatch,
  ) {
    this.storage = storage;
    this.#watch = watch;
    this.#turns = new Turns(watch);
    this.#writing = new WritingOnDemand(this, metadata);
    this.#cacheBytes = options.writable ? (options.cacheBytes ?? CACHE_BYTES) : undefined;
    this.format = metadata ? 'qcow2' : 'raw';
    this.#layers = options.layers;
    this.#kernel = options.kernel;
    this.#given = given;
    this.#resolver = options.resolver;
    this.#snapshot = snapshot;
    this.#rawSize = wholeSectors(storage.size);
    watch.onAbort(async () => {
      this.#closing ??= this.#abandon();
      await this.#closing;
    });
  }

  /**
   * Opens an image and reads its metadata. Files it names are not touched before data is read. The
   * image owns its source, and the files given in `options`, from here on: they are closed with it,
   * also when opening fails.
   * @throws Qcow2Error NOT_QCOW2, UNSUPPORTED, MALFORMED, TOO_LARGE, TRUNCATED, NOT_FOUND (snapshot),
   *   INVALID_ARGUMENT (no source, a snapshot to be written), IO, ABORTED; with `writable` READ_ONLY
   *   (no `write`, or marked corrupt) and REFUSED (not closed, and beyond repair)
   * @example
   * import { Image } from 'qcow2';
   *
   * // A resolver is asked for every file an image names: it decides, and where from.
   * const origin = 'https://images.example/';
   * const overlay = await fetch(`${origin}overlay.qcow2`);
   * const image = await Image.open(await overlay.blob(), {
   *   resolver: async ({ name, role }) => {
   *     if (role !== 'backing file' || !/^[\w.-]+$/.test(name)) return null;
   *     return (await fetch(origin + name)).blob();
   *   },
   * });
   * await image.read(0, new Uint8Array(4096));
   * await image.close();
   */
  static async open(source: ImageSource, options: OpenOptions = {}): Promise<Image> {
    const storage = await storageOf(source);
    const watch = new AbortWatch(options.signal, storage.name);
    return watch.race(Image.#open(storage, options, watch));
  }

  static async #open(storage: Storage, options: OpenOptions, watch: AbortWatch): Promise<Image> {
    let given: GivenFiles = {};
    try {
      given = await givenFiles(options);
      watch.onAbort(async () => {
        await storage.close();
        await closeGiven(given);
      });
      const format = given.format ?? (await probe(storage));
      let metadata = format === 'qcow2' ? await readMetadata(storage) : undefined;
      const snapshot =
        options.snapshot === undefined
          ? undefined
          : await findSnapshot(storage, metadata, options.snapshot);
      if (options.writable && snapshot)
        throw notWritable(storage, 'internal snapshots do not change');
      if (options.writable) metadata = await requireReady(storage, metadata, options.kernel);
      return new Image(storage, given, options, metadata, snapshot, watch);
    } catch (error) {
      watch.end();
      await storage.close();
      await closeGiven(given);
      throw error;
    }
  }

  /** What a qcow2 file says of itself, as it is now; undefined for raw. */
  get metadata(): Metadata | undefined {
    return this.#writing.metadata;
  }

  /** Length of the disk in bytes, as it is now (of the snapshot, if one was chosen). */
  get virtualSize(): number {
    return this.#snapshot?.diskSize ?? this.metadata?.virtualSize ?? this.#rawSize;
  }

  /** Whether the image was opened for writing. */
  get writable(): boolean {
    return this.#cacheBytes !== undefined;
  }

  /**
   * How files besides the image's own are come by.
   * @internal
   */
  get outside(): { given: GivenFiles; resolver: OutsideResolver | undefined } {
    return { given: this.#given, resolver: this.#resolver };
  }

  /** What maps and decodes; made when it is first needed. */
  get kernel(): Kernel {
    this.#kernel ??= createKernel();
    return this.#kernel;
  }

  /**
   * The internal snapshots, in table order.
   * @throws Qcow2Error MALFORMED, TOO_LARGE, TRUNCATED, IO
   */
  async snapshots(): Promise<Snapshot[]> {
    return this.metadata ? this.#watch.race(readSnapshots(this.storage, this.metadata)) : [];
  }

  /**
   * The persistent dirty bitmaps, in directory order.
   * @throws Qcow2Error MALFORMED, TRUNCATED, IO
   */
  async bitmaps(): Promise<BitmapDirectoryEntry[]> {
    return this.metadata ? this.#watch.race(readBitmaps(this.storage, this.metadata)) : [];
  }

  /**
   * The LUKS header of an encrypted image; undefined for others.
   * @throws Qcow2Error MALFORMED, TOO_LARGE, TRUNCATED, IO
   */
  async luksHeader(): Promise<LuksHeader | undefined> {
    return this.metadata
      ? this.#watch.race(readLuksHeader(this.storage, this.metadata))
      : undefined;
  }

  /**
   * The files guest data comes from, opened on first use through the resolver.
   * @throws Qcow2Error EXTERNAL_REFUSED, NEED_KEY, and those of opening each file
   * @internal
   */
  async chain(): Promise<Chain> {
    this.#watch.requireGoingOn();
    this.#chain ??= openChain(this.storage, this.metadata, this.#snapshot, this.kernel, {
      given: this.#given,
      resolver: this.#resolver,
      loadCodec: (type) => loadCodec(type, this.kernel),
      tableBytes: this.#cacheBytes,
      writable: this.writable,
      layers: this.#layers,
    });
    return this.#watch.race(this.#chain);
  }

  /**
   * Runs of `[start, end)` through the whole chain, into `plan`; see `Chain.map`.
   * @internal
   */
  map(start: number, end: number, plan: Plan): Promise<number> {
    return this.withChain((chain) => chain.map(start, end, plan));
  }

  /**
   * Runs `work` while no other mapping or read of this image is under way: the tables and buffers
   * of a chain are shared. `work` must not wait for another call of this image.
   * @internal
   */
  withChain<T>(work: (chain: Chain) => T | Promise<T>): Promise<T> {
    return this.#turns.take(async () => work(await this.chain()));
  }

  /**
   * Begins to fetch what reading guest bytes `[start, end)` will need, where that takes long.
   * @internal
   */
  prefetch(start: number, end: number): Promise<void> {
    return this.withChain(async (chain) => {
      if (!canPrefetch(chain.layers)) return;
      const stop = Math.min(end, this.virtualSize);
      for (let at = start; at < stop; ) {
        at = await chain.map(at, stop, this.#plan);
        prefetchPlan(this.#plan, chain.layers);
      }
    });
  }

  /**
   * Reads guest bytes `[offset, offset + into.length)`, whatever file of the chain has them.
   * @throws Qcow2Error INVALID_ARGUMENT beyond the disk; BAD_ENTRY, BAD_DATA, TRUNCATED, IO, NEED_KEY,
   *   EXTERNAL_REFUSED, and those of opening the files below
   */
  read(offset: number, into: Uint8Array): Promise<void> {
    return this.withChain(async (chain) => {
      requireOnDisk('read', offset, into.length, this.virtualSize);
      const end = offset + into.length;
      for (let at = offset; at < end; ) {
        const reached = await chain.map(at, Math.min(at + READ_BYTES, end), this.#plan);
        await chain.execute(this.#plan, at, into.subarray(at - offset, reached - offset));
        at = reached;
      }
    });
  }

  /**
   * Writes guest bytes at `offset`. They may not be durable before `flush` or `close`. The buffer may be
   * reused once the call has settled.
   * @throws Qcow2Error READ_ONLY: not opened for writing; INVALID_ARGUMENT beyond the disk; BAD_ENTRY: the
   *   image is damaged, and marked so; TOO_LARGE: it cannot grow; those of `read`; IO. After a `flush`
   *   that failed everything fails.
   * @example
   * import { create, Image, MemoryStorage } from 'qcow2';
   *
   * const storage = new MemoryStorage();
   * await create(storage, { format: 'qcow2', size: 1024 ** 3 });
   * const image = await Image.open(storage, { writable: true });
   * await image.write(4096, new TextEncoder().encode('hello'));
   * await image.close();
   */
  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#change('write', offset, bytes.length, (disk) => disk.write(offset, bytes));
  }

  /**
   * Makes guest bytes read as zeros, where possible without storing them.
   * @throws Qcow2Error as `write`
   */
  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): Promise<void> {
    const unmap = options.unmap ?? false;
    return this.#change('write of zeros', offset, length, (disk) =>
      disk.writeZeroes(offset, length, unmap),
    );
  }

  /**
   * Gives up what is stored of whole clusters in a guest range, which read as zeros afterwards (version
   * 2 images with a backing file keep them). Parts of clusters stay as they are; so does a raw image
   * whose storage cannot punch holes.
   * @throws Qcow2Error as `write`
   */
  discard(offset: number, length: number): Promise<void> {
    return this.#change('discard', offset, length, (disk) => disk.discard(offset, length));
  }

  /**
   * Makes everything written so far durable. A failure is final: what is on the disk is not known any
   * more, and all later writing fails.
   * @throws Qcow2Error READ_ONLY: not opened for writing; IO
   */
  flush(): Promise<void> {
    return this.#turns.take(() => this.#writing.flush());
  }

  /**
   * Gives the disk another length, durably; see `resize`.
   * @internal
   */
  changeSize(size: number, preallocation: Preallocation, step: Step): Promise<void> {
    return this.#turns.take(async () => {
      const disk = await this.#writing.disk();
      try {
        await disk.resize(size, preallocation, step);
      } finally {
        this.#rawSize = wholeSectors(this.storage.size);
      }
    });
  }

  /**
   * Runs `work` on a qcow2 image that is open for writing, while nothing else uses it: for operations
   * that change more than guest data. `work` must not wait for another call of this image.
   * @throws Qcow2Error READ_ONLY: not opened for writing; UNSUPPORTED: a raw image
   * @internal
   */
  withWritable<T>(work: (disk: WritableQcow2, chain: Chain) => Promise<T>): Promise<T> {
    return this.#turns.take(async () => work(await this.#writing.qcow2(), await this.chain()));
  }

  /**
   * The same for what changes how the file is read (the version, the width of counters): everything is
   * in the file and durable when `work` begins, and the header is read anew when it has ended.
   * @throws Qcow2Error those of `withWritable`, and of opening
   * @internal
   */
  reformat<T>(work: (disk: WritableQcow2, chain: Chain) => Promise<T>): Promise<T> {
    return this.#turns.take(() => this.#writing.reformat(work));
  }

  /**
   * Opens everything that writing needs; no memory grows at the first write then.
   * @throws Qcow2Error READ_ONLY: not opened for writing; and those of opening the chain
   * @internal
   */
  async prepareWriting(): Promise<void> {
    await this.#turns.take(() => this.#writing.disk());
  }

  /**
   * Records another backing file, durably. Files below are neither opened nor looked at. Only `close`
   * may follow: what is open is what was recorded before.
   * @throws Qcow2Error READ_ONLY: not opened for writing; UNSUPPORTED: a raw image; TOO_LARGE; IO
   * @internal
   */
  async changeBacking(backing: RecordedBacking | undefined): Promise<void> {
    await this.#turns.take(() => this.#writing.changeBacking(backing));
    this.retire('its backing file has changed');
  }

  /**
   * Refuses all calls but `close` from here on: the files below are not what they were.
   * @internal
   */
  retire(why: string): void {
    const text = `'${this.storage.name}' was changed as a whole (${why}): close it, and open it anew`;
    this.#turns.refuse(new Qcow2Error('INVALID_ARGUMENT', text));
  }

  /**
   * Closes the file and every file opened below it, once the calls under way have ended. What was
   * written is complete and durable then.
   * @throws Qcow2Error IO, if that failed now or before; the files are closed all the same; ABORTED, if
   *   the signal fires meanwhile
   */
  async close(): Promise<void> {
    if (this.#closing === undefined) {
      await this.#turns.ended();
      this.#closing ??= this.#watch.race(this.#close());
    }
    await this.#closing;
    this.#watch.end();
  }

  async #close(): Promise<void> {
    const chain = await this.#chain?.catch(() => undefined);
    try {
      await this.#writing.finish();
    } finally {
      await chain?.close();
      await closeGiven(this.#given);
      await this.storage.close();
    }
  }

  /** Closes what can be closed at once; nothing more is written. */
  async #abandon(): Promise<void> {
    // It may never come, or fail to.
    this.#chain?.then((chain) => chain.close()).catch(() => undefined);
    await closeGiven(this.#given);
    await this.storage.close();
  }

  #change(
    verb: string,
    offset: number,
    length: number,
    work: (disk: WritableDisk) => Promise<void>,
  ): Promise<void> {
    return this.#turns.take(async () => {
      this.#writing.requireWritable();
      requireOnDisk(verb, offset, length, this.virtualSize);
      if (length > 0) await work(await this.#writing.disk());
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
