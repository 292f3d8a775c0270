import type { Image } from '../image/image.ts';
import { map } from '../operations/map.ts';
import type { Extent, Storage } from '../storage/storage.ts';

/** The disk of an image as a raw file, to be read below another image. The image stays the caller's. */
export class DiskStorage implements Storage {
  readonly name: string;
  readonly size: number;
  readonly #image: Image;

  constructor(image: Image) {
    this.#image = image;
    this.size = image.virtualSize;
    this.name = `the disk of '${image.storage.name ?? 'storage'}'`;
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    const length = Math.max(0, Math.min(into.length, this.size - offset));
    if (length > 0) await this.#image.read(offset, into.subarray(0, length));
    return length;
  }

  /** What the tables say; a part of the range, where that is long. */
  async extents(offset: number, length: number): Promise<Extent[]> {
    const extents: Extent[] = [];
    for await (const entry of map(this.#image, { start: offset, length })) {
      extents.push({ offset: entry.start, length: entry.length, data: !entry.zero });
      if (extents.length === MAX_EXTENTS) break;
    }
    return extents;
  }

  close(): void {}
}

const MAX_EXTENTS = 8192;
