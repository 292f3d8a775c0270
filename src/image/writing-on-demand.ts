import { Qcow2Error } from '../errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import type { Chain } from './backing-chain.ts';
import type { Metadata } from './metadata.ts';
import type { RecordedBacking } from './recorded-backing.ts';
import type { WritableDisk } from './writable-disk.ts';
import type { WritableQcow2 } from './writable-qcow2.ts';
import type { ImageWriting } from './writing.ts';

/** What writing takes is loaded when it is needed: pages that only read are smaller. */
function loadWriting(): Promise<typeof import('./writing.ts')> {
  return import('./writing.ts');
}

/** An image that writing is asked of: the parts that this needs. */
export interface WritingOwner {
  readonly storage: Storage;
  readonly writable: boolean;
  readonly kernel: Kernel;
  chain(): Promise<Chain>;
}

/** See `requireReady` in writing.ts. */
export async function requireReady(
  storage: Storage,
  metadata: Metadata | undefined,
  kernel: Kernel | undefined,
): Promise<Metadata | undefined> {
  return (await loadWriting()).requireReady(storage, metadata, kernel);
}

/** Makes an image ready for writing when something is written first. */
export class WritingOnDemand {
  readonly #image: WritingOwner;
  #metadata: Metadata | undefined;
  #begun: Promise<ImageWriting> | undefined;
  #writing: ImageWriting | undefined;

  /** @param metadata as the image was opened with; undefined for raw */
  constructor(image: WritingOwner, metadata: Metadata | undefined) {
    this.#image = image;
    this.#metadata = metadata;
  }

  /** As it is now; undefined for raw. */
  get metadata(): Metadata | undefined {
    return this.#writing?.qcow2?.header.metadata ?? this.#metadata;
  }

  /** @throws Qcow2Error READ_ONLY: not opened for writing */
  requireWritable(): void {
    if (!this.#image.writable)
      throw notWritable(this.#image.storage, 'open it with writable: true');
  }

  /** @throws Qcow2Error READ_ONLY, and those of opening the chain */
  async disk(): Promise<WritableDisk> {
    return (await this.#begin()).disk;
  }

  /** @throws Qcow2Error READ_ONLY; UNSUPPORTED: a raw image; and those of opening the chain */
  async qcow2(): Promise<WritableQcow2> {
    const { qcow2 } = await this.#begin();
    if (qcow2 === undefined) throw rawImage(this.#image.storage);
    return qcow2;
  }

  /** See `Image.reformat`. */
  async reformat<T>(work: (disk: WritableQcow2, chain: Chain) => Promise<T>): Promise<T> {
    const disk = await this.qcow2();
    const result = await this.#writing!.reformat(disk, work);
    this.#metadata = this.metadata;
    return result;
  }

  /** See `Image.changeBacking`. */
  async changeBacking(backing: RecordedBacking | undefined): Promise<void> {
    this.requireWritable();
    const { storage } = this.#image;
    if (this.#metadata === undefined) throw rawImage(storage);
    const writing = await this.#begun;
    if (writing?.qcow2 !== undefined) {
      await writing.disk.flush();
      await writing.qcow2.header.changeBacking(backing);
    } else {
      const { recordBacking } = await loadWriting();
      this.#metadata = await recordBacking(storage, this.#metadata, backing);
    }
  }

  /** Makes durable what was written. */
  async flush(): Promise<void> {
    this.requireWritable();
    await (await this.#begun)?.disk.flush();
  }

  /** Makes complete and durable what was written, if anything was. */
  async finish(): Promise<void> {
    await (await this.#begun?.catch(() => undefined))?.disk.finish();
  }

  #begin(): Promise<ImageWriting> {
    this.#begun ??= this.#start();
    return this.#begun;
  }

  async #start(): Promise<ImageWriting> {
    this.requireWritable();
    const { ImageWriting } = await loadWriting();
    const { storage, kernel } = this.#image;
    const chain = await this.#image.chain();
    this.#writing = await ImageWriting.begin(chain, storage, this.#metadata, kernel);
    return this.#writing;
  }
}

function rawImage({ name }: Storage): Qcow2Error {
  const text = `'${name}' is a raw image: it has no such structures`;
  return new Qcow2Error('UNSUPPORTED', text, { structure: 'image format' });
}

/** @param why one clause that says what to do */
export function notWritable({ name }: Storage, why: string): Qcow2Error {
  const text = `'${name}' is not open for writing: ${why}`;
  return new Qcow2Error('READ_ONLY', text, name === undefined ? {} : { file: name });
}
