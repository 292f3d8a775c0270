import { Qcow2Error } from '../errors.ts';
import type { BlockDisk } from './block-disk.ts';

/**
 * Makes a class of disks for the pipelines of `@xen-orchestra/disk-transform` (`toQcow2Stream`,
 * `DiskPassthrough`, `ReadAhead`, ...), which takes the place of their readers of images. An instance
 * opens its disk in `init` and closes it in `close`; the parents of a differencing disk come with it.
 * @param Base the `RandomAccessDisk` of that package, which is yours to install
 * @returns a class whose constructor takes what opens the disk
 * @throws Nothing itself; methods before `init` throw Qcow2Error INVALID_ARGUMENT
 * @example
 * import { RandomAccessDisk, ReadAhead } from '@xen-orchestra/disk-transform';
 * import { openImage } from 'qcow2';
 * import { BlockDisk, randomAccessDisk } from 'qcow2/blocks';
 *
 * const Qcow2Disk = randomAccessDisk(RandomAccessDisk);
 * const disk = new Qcow2Disk(async () => BlockDisk.open(await openImage('disk.qcow2')));
 * await disk.init();
 * for await (const { index, data } of new ReadAhead(disk).diskBlocks()) {
 *   console.log(index, data.length);
 * }
 */
export function randomAccessDisk<Disk extends object>(
  Base: abstract new () => Disk,
): new (
  open: () => Promise<BlockDisk>,
) => Disk {
  class ImageDisk extends (Base as unknown as new () => object) {
    readonly #open: () => Promise<BlockDisk>;
    #opened: BlockDisk | undefined;

    constructor(open: () => Promise<BlockDisk>) {
      super();
      this.#open = open;
    }

    get #disk(): BlockDisk {
      if (this.#opened !== undefined) return this.#opened;
      throw new Qcow2Error('INVALID_ARGUMENT', 'the disk is not open: call init first');
    }

    async init(): Promise<void> {
      this.#opened ??= await this.#open();
    }

    async close(): Promise<void> {
      await this.#opened?.close();
    }

    getVirtualSize(): number {
      return this.#disk.virtualSize;
    }

    getBlockSize(): number {
      return this.#disk.blockSize;
    }

    isDifferencing(): boolean {
      return this.#disk.isDifferencing;
    }

    instantiateParent(): object {
      const disk = this.#disk;
      return new ImageDisk(() => disk.openParent());
    }

    hasBlock(index: number): boolean {
      return this.#disk.hasBlock(index);
    }

    getBlockIndexes(): number[] {
      return [...this.#disk.blockIndexes()];
    }

    getBlockIndexesCount(): number {
      return this.#disk.presentCount;
    }

    /** They use methods of `Buffer`. */
    async readBlock(index: number): Promise<{ index: number; data: Buffer }> {
      const { data } = await this.#disk.readBlock(index);
      return { index, data: Buffer.from(data.buffer) };
    }
  }
  return ImageDisk as unknown as new (
    open: () => Promise<BlockDisk>,
  ) => Disk;
}
