import type { Image } from '../image/image.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import { type DiskRange, Source } from '../operations/chunks.ts';
import { type OperationControl, pacer } from '../operations/control.ts';
import { DigestInOrder } from '../operations/disk-digest.ts';
import { type ChecksumAlgorithm, diskDigest } from './disk-digest.ts';
import { BLOCK_BYTES } from './zero-tree.ts';

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
  const { kernel = createKernel(), signal, onProgress } = options;
  const digest = diskDigest(options.algorithm);
  const source = new Source('chain' in images ? [images] : images, options.range);
  const pause = pacer(signal, 'the checksum');
  const report = async (): Promise<void> => {
    await pause();
    await onProgress?.(digest.position, source.size);
  };
  const inOrder = new DigestInOrder(digest, report);
  for (const image of source.images) await image.chain();
  const block = kernel.arena.allocate(BLOCK_BYTES);
  try {
    await report();
    for await (const start of source.chunks(BLOCK_BYTES, 'data')) {
      await source.read(start, block.bytes);
      await inOrder.read(start, block.bytes.subarray(0, source.size - start));
      await report();
    }
    await inOrder.skipTo(source.size);
    await report();
    return digest.end();
  } finally {
    kernel.arena.release(block);
  }
}
