import { loadCodec } from '../codecs/load.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { Chain } from './backing-chain.ts';
import { HeaderState } from './header-state.ts';
import { type Metadata, readMetadata } from './metadata.ts';
import type { RawLayer } from './raw-layer.ts';
import type { RecordedBacking } from './recorded-backing.ts';
import { SyncedFile } from './synced-file.ts';
import type { WritableDisk } from './writable-disk.ts';
import { WritableQcow2 } from './writable-qcow2.ts';
import { WritableRaw } from './writable-raw.ts';
import { clearUnknownFeatures, repairIfDirty, requireWritable } from './write-gate.ts';

// All that writing takes is loaded through this file, when an image is opened for it: what only reads
// is much smaller without it.

/**
 * Looks at an image that is opened for writing, and repairs one that was not closed.
 * @returns its metadata, as they are then
 * @throws Qcow2Error READ_ONLY, REFUSED
 */
export async function requireReady(
  storage: Storage,
  metadata: Metadata | undefined,
  kernel: Kernel | undefined,
): Promise<Metadata | undefined> {
  requireWritable(storage, metadata);
  return metadata && repairIfDirty(storage, metadata, kernel?.backend);
}

/**
 * Records another backing file in an image of which nothing else is written, durably.
 * @returns its metadata then
 * @throws Qcow2Error TOO_LARGE, IO
 */
export async function recordBacking(
  storage: Storage,
  metadata: Metadata,
  backing: RecordedBacking | undefined,
): Promise<Metadata> {
  const file = new SyncedFile(storage);
  const header = new HeaderState(file, metadata);
  await clearUnknownFeatures(file, header);
  await header.changeBacking(backing);
  return header.metadata;
}

/** What is written into an image while it is open. */
export class ImageWriting {
  readonly #chain: Chain;
  readonly #storage: Storage;
  readonly #kernel: Kernel;
  #qcow2: WritableQcow2 | undefined;
  #raw: WritableRaw | undefined;

  private constructor(chain: Chain, storage: Storage, kernel: Kernel) {
    this.#chain = chain;
    this.#storage = storage;
    this.#kernel = kernel;
  }

  /** @param metadata of a qcow2 image; undefined: it is raw */
  static async begin(
    chain: Chain,
    storage: Storage,
    metadata: Metadata | undefined,
    kernel: Kernel,
  ): Promise<ImageWriting> {
    const writing = new ImageWriting(chain, storage, kernel);
    if (metadata === undefined)
      writing.#raw = new WritableRaw(storage, chain.layers[0]!.layer as RawLayer);
    else writing.#qcow2 = await WritableQcow2.open(chain, metadata, kernel);
    return writing;
  }

  get disk(): WritableDisk {
    return (this.#qcow2 ?? this.#raw)!;
  }

  /** Undefined: the image is raw. */
  get qcow2(): WritableQcow2 | undefined {
    return this.#qcow2;
  }

  /** See `Image.reformat`. */
  async reformat<T>(
    disk: WritableQcow2,
    work: (disk: WritableQcow2, chain: Chain) => Promise<T>,
  ): Promise<T> {
    await disk.finish();
    try {
      const result = await work(disk, this.#chain);
      const metadata = await readMetadata(this.#storage);
      const codec = await loadCodec(metadata.header.compressionType, this.#kernel);
      this.#chain.renew(metadata, codec);
      this.#qcow2 = await WritableQcow2.open(this.#chain, metadata, this.#kernel);
      return result;
    } catch (error) {
      // Which of the two the file is now is not known.
      disk.writeBack.file.fail(error);
      throw error;
    }
  }
}
