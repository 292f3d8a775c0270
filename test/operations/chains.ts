import fc from 'fast-check';
import { Image } from '../../src/image/image.ts';
import type { OutsideResolver } from '../../src/image/open-gate.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { check } from '../../src/operations/check.ts';
import { create } from '../../src/operations/create.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';

/** A file in memory that can be told from others. */
class NamedFile extends MemoryStorage {
  readonly identity: string;

  constructor(name: string) {
    super(new Uint8Array(0), name);
    this.identity = name;
  }
}

export interface Change {
  readonly at: number;
  readonly length: number;
  /** 0 for zeros, written as such. */
  readonly fill: number;
}

/** An image of a chain: what it is like, and what is written to it. */
export interface Level {
  readonly format: 'raw' | 'qcow2';
  /** In bytes; whole sectors. */
  readonly size: number;
  readonly clusterSize: number;
  readonly version: 2 | 3;
  readonly extendedL2: boolean;
  readonly changes: readonly Change[];
}

const KIB = 1024;

/** A level of a few hundred KiB, with changes that begin and end at or off clusters. */
export function anyLevel(format?: 'raw' | 'qcow2'): fc.Arbitrary<Level> {
  const shape = fc.constantFrom(
    { clusterSize: 512, version: 3, extendedL2: false } as const,
    { clusterSize: 4096, version: 3, extendedL2: false } as const,
    { clusterSize: 4096, version: 2, extendedL2: false } as const,
    { clusterSize: 65536, version: 3, extendedL2: false } as const,
    { clusterSize: 16384, version: 3, extendedL2: true } as const,
  );
  const size = fc.integer({ min: 1, max: 400 }).map((sectors) => sectors * 512);
  const kind = format === undefined ? fc.constantFrom('raw', 'qcow2') : fc.constant(format);
  return fc.tuple(kind, size, shape).chain(([of, bytes, rest]) => {
    const change = fc
      .tuple(
        fc.nat(bytes - 1),
        fc.constantFrom(1, 512, 4096, 64 * KIB),
        fc.constantFrom(1, 100, 512, 5000, 16384, 70_000),
        fc.constantFrom(0, 0, 1, 2, 3),
      )
      .map(([place, unit, length, fill]): Change => {
        const at = place - (place % unit);
        return { at, length: Math.min(length, bytes - at), fill };
      });
    const changes = fc.array(change, { maxLength: 5 });
    return changes.map((list) => ({ format: of, size: bytes, ...rest, changes: list }) as Level);
  });
}

/** Files of images that name each other. */
export class Chains {
  readonly files = new Map<string, NamedFile>();
  /** What the disk of each holds. */
  readonly disks = new Map<string, Uint8Array>();
  readonly formats = new Map<string, 'raw' | 'qcow2'>();
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  get #resolver(): OutsideResolver {
    return ({ name }) => this.files.get(name) ?? null;
  }

  /** Makes an image, over another one if it is named. */
  async make(name: string, level: Level, below?: string): Promise<void> {
    const file = new NamedFile(name);
    this.files.set(name, file);
    this.formats.set(name, level.format);
    const { size, clusterSize, version, extendedL2, format, changes } = level;
    const names = below && { backingFile: below, backingFormat: this.formats.get(below)! };
    if (format === 'raw') await create(file, { format, size });
    else {
      const compat = version === 2 ? '0.10' : '1.1';
      await create(file, { format, size, clusterSize, extendedL2, compat, ...names });
    }
    const disk = new Uint8Array(size);
    if (below !== undefined) disk.set(this.disks.get(below)!.subarray(0, size));
    const image = await this.open(name, { writable: true });
    for (const { at, length, fill } of changes) {
      disk.fill(fill, at, at + length);
      if (fill === 0) await image.writeZeroes(at, length);
      else await image.write(at, new Uint8Array(length).fill(fill));
    }
    await image.close();
    this.disks.set(name, disk);
  }

  open(name: string, options: OpenOptions = {}): Promise<Image> {
    const format = this.formats.get(name)!;
    const fixed = { format, cacheBytes: 0, resolver: this.#resolver, kernel: this.#kernel };
    return Image.open(this.files.get(name)!, { ...fixed, ...options });
  }

  /** What an image opened anew shows. */
  async read(name: string): Promise<Uint8Array> {
    const image = await this.open(name);
    const disk = new Uint8Array(image.virtualSize);
    await image.read(0, disk);
    await image.close();
    return disk;
  }

  /** What `check` finds in any of them. */
  async findings(): Promise<string[]> {
    const all: string[] = [];
    for (const [name, file] of this.files) {
      if (this.formats.get(name) === 'raw') continue;
      const { findings } = await check(file, {
        resolver: this.#resolver,
        kernel: this.#kernel,
      });
      all.push(...findings.map(({ message }) => `${name}: ${message}`));
    }
    return all;
  }
}
