import { Qcow2Error } from '../errors.ts';
import { AllocationMap } from '../image/allocation-map.ts';
import type { Chain } from '../image/backing-chain.ts';
import type { Image } from '../image/image.ts';
import { isUnallocated, Plan } from '../image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import { throwIfAborted } from '../operations/control.ts';

/** Guest bytes mapped at once; the plan may end it earlier. */
const WINDOW_BYTES = 2 ** 40;
const MAX_BLOCK_BYTES = 2 ** 30;

/** How to look at a disk. */
export interface BlockDiskOptions {
  /** Bytes of a block, a multiple of 512 up to 1 GiB. Default the cluster size; of raw images 64 KiB. */
  blockSize?: number;
  /**
   * Show what the image itself holds, against its backing file: blocks of which it holds nothing are
   * missing, and the parent has them. Default true for images with a backing file. False: the
   * disk is one, and blocks that are known to be zeros are missing.
   */
  differencing?: boolean;
  /** Ends `open` with an `ABORTED` error. */
  signal?: AbortSignal;
}

/** A part of a disk. */
export interface Block {
  /** Position on the disk, in blocks. */
  index: number;
  /** Whole, also at the end of the disk: zeros lie behind it. */
  data: Uint8Array<ArrayBuffer>;
}

/**
 * The disk of an image in blocks of one size, any of which can be read at any time. Which blocks there
 * are is found out when it is opened, from the tables alone, and takes at most a bit for each. The image
 * must not change meanwhile.
 * @example
 * import { openImage } from 'qcow2';
 * import { BlockDisk } from 'qcow2/blocks';
 *
 * const disk = await BlockDisk.open(await openImage('overlay.qcow2'), { blockSize: 2 ** 21 });
 * console.log(disk.virtualSize, disk.isDifferencing, disk.presentCount);
 * for (const index of disk.blockIndexes()) {
 *   const { data } = await disk.readBlock(index);
 *   console.log(index, data.length);
 * }
 * const base = await disk.openParent();
 * console.log(base.hasBlock(0));
 * await disk.close();
 */
export class BlockDisk {
  /** Bytes. */
  readonly blockSize: number;
  /** Length of the disk in bytes, exactly: the last block may reach over it. */
  readonly virtualSize: number;
  /** Whether missing blocks are those of the parent; otherwise they are zeros. */
  readonly isDifferencing: boolean;
  /** Blocks the disk has room for, whether they are there or not. */
  readonly blockCount: number;
  /** Blocks that are there. */
  readonly presentCount: number;
  readonly #image: Image;
  /** Index in the chain of the image that is shown. */
  readonly #depth: number;
  readonly #map: AllocationMap;
  readonly #plan = new Plan();
  #parent: Promise<BlockDisk> | undefined;

  private constructor(
    image: Image,
    depth: number,
    view: { blockSize: number; virtualSize: number; isDifferencing: boolean },
    map: AllocationMap,
  ) {
    this.#image = image;
    this.#depth = depth;
    this.#map = map;
    this.blockSize = view.blockSize;
    this.virtualSize = view.virtualSize;
    this.isDifferencing = view.isDifferencing;
    this.blockCount = map.length;
    this.presentCount = map.count();
  }

  /**
   * Finds out which blocks there are. The image belongs to the disk from here on, also when this fails.
   * @throws Qcow2Error INVALID_ARGUMENT, TOO_LARGE (more than 2^38 blocks), ABORTED, and those of mapping:
   *   BAD_ENTRY, TRUNCATED, IO, EXTERNAL_REFUSED
   */
  static async open(image: Image, options: BlockDiskOptions = {}): Promise<BlockDisk> {
    try {
      return await BlockDisk.#open(image, 0, options);
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  static async #open(image: Image, depth: number, options: BlockDiskOptions): Promise<BlockDisk> {
    const chain = await image.chain();
    const { layer } = chain.layers[depth]!;
    const { blockSize = Math.max(layer.clusterSize, layer.format === 'raw' ? 65536 : 512) } =
      options;
    requireBlockSize(blockSize);
    const hasParent = depth + 1 < chain.layers.length;
    const isDifferencing = options.differencing ?? hasParent;
    if (isDifferencing && !hasParent) {
      const text = `'${layer.storage.name}' has no backing file: there is nothing it differs from`;
      throw new Qcow2Error('INVALID_ARGUMENT', text);
    }
    const virtualSize = depth === 0 ? image.virtualSize : layer.virtualSize;
    const view = { blockSize, virtualSize, isDifferencing };
    const map = new AllocationMap(Math.ceil(virtualSize / blockSize));
    const plan = new Plan();
    for (let at = 0; at < virtualSize; ) {
      throwIfAborted(options.signal, 'mapping the disk');
      const end = Math.min(virtualSize, at + WINDOW_BYTES);
      at = await image.withChain((files) =>
        isDifferencing ? mapOne(files, depth, at, end, plan) : files.map(at, end, plan, depth),
      );
      markPresent(plan, isDifferencing, blockSize, map);
    }
    return new BlockDisk(image, depth, view, map);
  }

  /** Whether a block is there; false for one behind the end of the disk. */
  hasBlock(index: number): boolean {
    return this.#map.has(index);
  }

  /** The blocks that are there, ascending. */
  *blockIndexes(): Generator<number, void, undefined> {
    const map = this.#map;
    for (let index = map.next(0); index < map.length; index = map.next(index + 1)) yield index;
  }

  /**
   * Reads a block; one that is missing is read from the parent and what lies below it, or is zeros.
   * @throws Qcow2Error INVALID_ARGUMENT: no such block; those of `Image.read`
   */
  async readBlock(index: number): Promise<Block> {
    if (!(Number.isInteger(index) && index >= 0 && index < this.blockCount)) {
      const text = `block ${index} is not on the disk, which has blocks 0 to ${this.blockCount - 1}`;
      throw new Qcow2Error('INVALID_ARGUMENT', text, { value: index });
    }
    const data = new Uint8Array(this.blockSize);
    const start = index * this.blockSize;
    const end = Math.min(start + this.blockSize, this.virtualSize);
    await this.#image.withChain(async (chain) => {
      for (let at = start; at < end; ) {
        const reached = await chain.map(at, end, this.#plan, this.#depth);
        await chain.execute(this.#plan, at, data.subarray(at - start, reached - start));
        at = reached;
      }
    });
    return { index, data };
  }

  /** Reads the blocks that are there, ascending. @throws Qcow2Error as `readBlock` */
  async *blocks(): AsyncGenerator<Block, void, undefined> {
    for (const index of this.blockIndexes()) yield await this.readBlock(index);
  }

  /**
   * The disk of the backing file, in blocks of the same size; differencing again if it has one itself.
   * It needs this disk to stay open.
   * @throws Qcow2Error INVALID_ARGUMENT: this disk is not differencing; those of `open`
   */
  openParent(): Promise<BlockDisk> {
    if (!this.isDifferencing) {
      const text = 'the disk is not differencing: it has no parent';
      return Promise.reject(new Qcow2Error('INVALID_ARGUMENT', text));
    }
    const { blockSize } = this;
    this.#parent ??= BlockDisk.#open(this.#image, this.#depth + 1, { blockSize });
    return this.#parent;
  }

  /** Closes the image and all below it; a parent leaves that to the disk it comes from. */
  async close(): Promise<void> {
    if (this.#depth === 0) await this.#image.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Runs of one image of the chain; returns how far they reach. */
async function mapOne(
  { layers }: Chain,
  depth: number,
  start: number,
  end: number,
  plan: Plan,
): Promise<number> {
  plan.clear();
  return layers[depth]!.layer.mapRange(start, end, depth, plan);
}

function markPresent(plan: Plan, own: boolean, blockSize: number, map: AllocationMap): void {
  for (let i = 0; i < plan.count; i++) {
    const kind = plan.kind[i]!;
    const isThere = own ? !isUnallocated(kind) : kind === RUN_DATA || kind === RUN_COMPRESSED;
    if (!isThere) continue;
    const from = plan.guest[i]!;
    map.fill(Math.floor(from / blockSize), Math.ceil((from + plan.length[i]!) / blockSize));
  }
}

function requireBlockSize(blockSize: number): void {
  const fits = blockSize >= 512 && blockSize <= MAX_BLOCK_BYTES && blockSize % 512 === 0;
  if (fits) return;
  const text = `block size ${blockSize}: a multiple of 512 up to ${MAX_BLOCK_BYTES} is needed`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { value: blockSize });
}
