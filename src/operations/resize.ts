import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import type { Preallocation } from '../image/new-image.ts';
import { type OperationControl, pacer } from './control.ts';

/** How to give a disk another length. */
export interface ResizeOptions extends Pick<OperationControl, 'signal'> {
  /** Allows a shorter disk: what was behind its end is lost. */
  shrink?: boolean;
  /** What is done ahead for what is new; `metadata` is for qcow2 only. Default `off`. */
  preallocation?: Preallocation;
}

/**
 * Gives the disk of an image that is open for writing another length, durably. What is new reads as
 * zeros, also where a backing file is longer than the disk was. An external data file follows, and so
 * does `image.virtualSize`. If it fails or is aborted the disk has the old length or the new one; the end
 * of one that was to be shorter may be lost all the same.
 * @param size in bytes; of a qcow2 image whole sectors of 512
 * @throws Qcow2Error INVALID_ARGUMENT; REFUSED: a shorter disk without `shrink`, or a bitmap that is
 *   inconsistent; UNSUPPORTED: version 2 with snapshots; TOO_LARGE; READ_ONLY; ABORTED; BAD_ENTRY; IO
 * @example
 * import { create, Image, MemoryStorage, resize } from 'qcow2';
 *
 * const storage = new MemoryStorage();
 * await create(storage, { format: 'qcow2', size: 1024 ** 3 });
 * const image = await Image.open(storage, { writable: true });
 * await resize(image, 5 * 1024 ** 3);
 * console.log(image.virtualSize); // 5368709120
 * await image.close();
 */
export async function resize(
  image: Image,
  size: number,
  options: ResizeOptions = {},
): Promise<void> {
  const { shrink = false, preallocation = 'off', signal } = options;
  const fail = (code: 'INVALID_ARGUMENT' | 'REFUSED', text: string): never => {
    throw new Qcow2Error(code, text, { value: size });
  };
  if (!Number.isSafeInteger(size) || size <= 0)
    fail('INVALID_ARGUMENT', 'New image size must be positive');
  if (preallocation !== 'off' && size <= image.virtualSize)
    fail('INVALID_ARGUMENT', 'Preallocation can only be used for growing images');
  if (size < image.virtualSize && !shrink) {
    const text = `a disk of ${size} bytes is shorter than it is now, and all data behind its end would be lost; allow it with shrink`;
    fail('REFUSED', text);
  }
  await image.changeSize(size, preallocation, pacer(signal, 'the change of size'));
}
