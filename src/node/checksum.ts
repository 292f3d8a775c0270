import { createHash } from 'node:crypto';
import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import type { Region } from '../kernel/arena.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { type DiskRange, Source } from '../operations/chunks.ts';
import { type OperationControl, pacer } from '../operations/control.ts';
import { BLOCK_BYTES, ZeroTree } from './zero-tree.ts';

/** Digests of a guest disk. */
export const CHECKSUM_ALGORITHMS = ['sha256', 'sha256-sparse'] as const;

/** `sha256` is what `sha256sum` says of the raw disk; `sha256-sparse` costs nothing for zeros. */
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

/** How to take the digest of a disk. */
export interface ChecksumOptions extends OperationControl {
  algorithm: ChecksumAlgorithm;
  /** The digest of this part of the disks only, as if it were all. */
  range?: DiskRange | undefined;
  /** Holds a block; default a new one. It must not be reset meanwhile. */
  kernel?: Kernel | undefined;
}

/**
 * The digest of a guest disk, or of several one after the other, in hexadecimal. It depends on what a
 * guest reads only: format, cluster size, compression and holes do not matter.
 *
 * `sha256` is SHA-256 of all bytes, zeros included, in their order. `sha256-sparse` is a hash tree that
 * takes no time for ranges without data:
 *
 * - The disk is cut in blocks of 2 MiB; the last one is filled up with zeros. The number of blocks is
 *   filled up with zero blocks to a power of two, at least 1.
 * - A block of zeros has the hash of 32 zero bytes, any other SHA-256(0x00, block).
 * - Two hashes of 32 zero bytes have the parent hash of 32 zero bytes, any others
 *   SHA-256(0x01, left, right), up to the root.
 * - The digest is SHA-256("qcow2 sha256-sparse 1\n", length of the disk in bytes as 64 bits big-endian,
 *   root).
 * @throws Qcow2Error INVALID_ARGUMENT, ABORTED, and whatever reading throws
 * @example
 * import { checksum, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2');
 * console.log(await checksum(image, { algorithm: 'sha256-sparse' }));
 * await image.close();
 */
export async function checksum(
  images: Image | readonly Image[],
  options: ChecksumOptions,
): Promise<string> {
  const { algorithm } = options;
  if (!CHECKSUM_ALGORITHMS.includes(algorithm)) {
    const known = CHECKSUM_ALGORITHMS.join(' and ');
    const text = `unknown checksum '${algorithm}'; there are ${known}`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { value: algorithm });
  }
  const source = new Source('chain' in images ? [images] : images, options.range);
  const digest = algorithm === 'sha256' ? new PlainDigest() : new SparseDigest();
  const { kernel = createKernel() } = options;
  for (const image of source.images) await image.chain();
  const block = kernel.arena.allocate(BLOCK_BYTES);
  try {
    await readBlocks(source, block, kernel, digest, options);
    return digest.end(source.size);
  } finally {
    kernel.arena.release(block);
  }
}

interface Digest {
  /** Adds a block, of which `length` bytes lie in the disk; behind them are zeros. */
  add(start: number, block: Uint8Array, length: number): void;
  /** Adds zeros up to an offset; returns where it stopped, so that a long run can be left in between. */
  skipTo(offset: number): number;
  end(size: number): string;
}

async function readBlocks(
  source: Source,
  block: Region,
  kernel: Kernel,
  digest: Digest,
  { signal, onProgress }: ChecksumOptions,
): Promise<void> {
  const pause = pacer(signal, 'the checksum');
  const report = async (done: number): Promise<void> => {
    await pause();
    await onProgress?.(done, source.size);
  };
  const skipTo = async (end: number): Promise<void> => {
    for (let at = digest.skipTo(end); at < end; at = digest.skipTo(end)) await report(at);
  };
  await report(0);
  for await (const start of source.chunks(BLOCK_BYTES, 'data')) {
    await skipTo(start);
    await source.read(start, block.bytes);
    const end = Math.min(start + BLOCK_BYTES, source.size);
    if (!kernel.isZero(block.ptr, BLOCK_BYTES)) digest.add(start, block.bytes, end - start);
    else await skipTo(end);
    await report(end);
  }
  await skipTo(source.size);
  await report(source.size);
}

/** Zeros hashed between two looks at events. */
const ZEROS_AT_ONCE = 32 * 1024 * 1024;

class PlainDigest implements Digest {
  readonly #hash = createHash('sha256');
  readonly #zeros = Buffer.alloc(1024 * 1024);
  #at = 0;

  add(start: number, block: Uint8Array, length: number): void {
    this.#hash.update(block.subarray(0, length));
    this.#at = start + length;
  }

  skipTo(offset: number): number {
    const end = Math.min(offset, this.#at + ZEROS_AT_ONCE);
    for (let left = end - this.#at; left > 0; left -= this.#zeros.length)
      this.#hash.update(this.#zeros.subarray(0, left));
    this.#at = Math.max(this.#at, end);
    return this.#at;
  }

  end(): string {
    return this.#hash.digest('hex');
  }
}

class SparseDigest implements Digest {
  readonly #tree = new ZeroTree();

  add(start: number, bytes: Uint8Array): void {
    this.#tree.add(start / BLOCK_BYTES, bytes);
  }

  skipTo(offset: number): number {
    return offset;
  }

  end(size: number): string {
    return this.#tree.digest(size).toString('hex');
  }
}
