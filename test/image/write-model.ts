import fc from 'fast-check';
import { Image } from '../../src/image/image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { check } from '../../src/operations/check.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { KindImage, WriteKind } from './write-kinds.ts';

/** One thing done to an image. */
export type WriteStep =
  | { readonly do: 'write'; readonly at: number; readonly length: number; readonly fill: number }
  | { readonly do: 'zero'; readonly at: number; readonly length: number; readonly unmap: boolean }
  | { readonly do: 'discard'; readonly at: number; readonly length: number }
  | { readonly do: 'flush' | 'reopen' | 'read' };

/** Ranges that begin and end at, near or far from what the kind is divided into. */
export function rangeOn({
  size,
  clusterSize,
}: Pick<WriteKind, 'size' | 'clusterSize'>): fc.Arbitrary<{ at: number; length: number }> {
  const units = [1, 512, Math.max(512, clusterSize / 32), clusterSize];
  const place = fc
    .tuple(fc.constantFrom(...units), fc.nat(2 ** 30), fc.constantFrom(0, 0, 0, 1, -1, 512))
    .map(([unit, n, shift]) => {
      const at = (n % Math.ceil(size / unit)) * unit + shift;
      return Math.min(Math.max(at, 0), size);
    });
  const span = fc.tuple(fc.constantFrom(...units), fc.integer({ min: 1, max: 20 }));
  return fc.tuple(place, span, place, fc.boolean()).map(([a, [unit, count], b, far]) => {
    const end = far ? b : Math.min(size, a + unit * count);
    return { at: Math.min(a, end), length: Math.abs(end - a) };
  });
}

/** A sequence of steps for images of a kind. */
export function stepsOn(kind: WriteKind): fc.Arbitrary<WriteStep[]> {
  const range = rangeOn(kind);
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc
        .tuple(range, fc.integer({ min: 1, max: 255 }))
        .map(([r, fill]): WriteStep => ({ do: 'write', ...r, fill })),
    },
    {
      weight: 4,
      arbitrary: fc
        .tuple(range, fc.boolean())
        .map(([r, unmap]): WriteStep => ({ do: 'zero', ...r, unmap })),
    },
    { weight: 3, arbitrary: range.map((r): WriteStep => ({ do: 'discard', ...r })) },
    { weight: 2, arbitrary: fc.constant<WriteStep>({ do: 'flush' }) },
    { weight: 1, arbitrary: fc.constant<WriteStep>({ do: 'reopen' }) },
    { weight: 1, arbitrary: fc.constant<WriteStep>({ do: 'read' }) },
  );
  return fc.array(step, { minLength: 1, maxLength: 14 });
}

/** The bytes a write step writes: they tell where they belong. */
export function bytesOf({ at, length, fill }: { at: number; length: number; fill: number }) {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (at + i) % 251 === 0 ? fill ^ 0x55 : fill;
  return bytes;
}

/** What a step makes of the disk. */
export function applyToModel(model: Uint8Array, step: WriteStep, kind: WriteKind): void {
  if (step.do === 'write') model.set(bytesOf(step), step.at);
  else if (step.do === 'zero') model.fill(0, step.at, step.at + step.length);
  else if (step.do === 'discard' && !(kind.version === 2 && kind.hasBacking)) {
    const { clusterSize, size } = kind;
    const end = step.at + step.length;
    const to = end === size ? end : end - (end % clusterSize);
    const from = Math.ceil(step.at / clusterSize) * clusterSize;
    if (from < to) model.fill(0, from, to);
  }
}

/** An image of a kind in memory, to be written to. */
export class Subject {
  /** As it was at first. */
  readonly image: KindImage;
  readonly kind: WriteKind;
  readonly files = new Map<string, MemoryStorage>();
  readonly #cacheBytes: number;

  constructor(image: KindImage, cacheBytes: number) {
    const { kind, files } = image;
    this.image = image;
    this.kind = kind;
    this.#cacheBytes = cacheBytes;
    for (const [name, bytes] of files) this.files.set(name, new MemoryStorage(bytes.slice(), name));
  }

  open(writable: boolean, snapshot?: string): Promise<Image> {
    return this.openWith({ writable, ...(snapshot === undefined ? {} : { snapshot }) });
  }

  openWith(options: OpenOptions): Promise<Image> {
    return Image.open(this.files.get('image.qcow2')!, {
      resolver: ({ name }) => this.files.get(name) ?? null,
      cacheBytes: this.#cacheBytes,
      ...options,
    });
  }

  /** All bytes of the disk or of a snapshot, by a reader that knows nothing of the writer. */
  async contents(snapshot?: string): Promise<Uint8Array> {
    const image = await this.open(false, snapshot);
    const disk = new Uint8Array(image.virtualSize);
    await image.read(0, disk);
    await image.close();
    return disk;
  }

  /** What is wrong with the file: nothing, for a sound one. */
  async findings(): Promise<string[]> {
    const result = await check(this.files.get('image.qcow2')!, {
      resolver: ({ name }) => this.files.get(name) ?? null,
    });
    return result.findings.map(({ message }) => message);
  }
}

/** Index of the first byte that differs; -1 if none does. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  const end = Math.min(a.length, b.length);
  for (let i = 0; i < end; i++) if (a[i] !== b[i]) return i;
  return end;
}
