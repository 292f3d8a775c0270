import { isQcow2Error } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { Random } from '../fuzz/random.ts';
import type { Bench, CrashCase } from './crash-case.ts';
import type { CrashState } from './crash-states.ts';
import { GuestModel } from './guest-model.ts';
import { type ImageExpectation, judge, readAll, withKernel } from './verdict.ts';

/** An image before an operation, in the file `image`, and the files it names. */
export interface ImageBase {
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** What its disk reads. */
  readonly disk: Uint8Array;
  /** What its internal snapshots read, by name. */
  readonly snapshots?: Readonly<Record<string, Uint8Array>>;
}

/**
 * An operation on an image that is open for writing. A verb that changes images adds one to a table
 * of these: the image it starts from, what it does, and what may be found besides (by default: the
 * disk of `model`, and the snapshots of the base).
 */
export interface ImageOperation {
  readonly name: string;
  readonly base: () => Promise<ImageBase>;
  /** Does it and closes the image. Guest writes and flushes are told to `model`. */
  run(image: Image, model: GuestModel, bench: Bench, base: ImageBase): Promise<void>;
  readonly open?: OpenOptions;
  /** What else holds: other sizes of the disk, snapshots that come or go, lazy counters. */
  readonly expect?: (bench: Bench, base: ImageBase) => Partial<ImageExpectation>;
}

/** An operation as a case for `crash`; after every 20th cut or so the image is written again. */
export function onImage({ name, base, run, open, expect }: ImageOperation): CrashCase {
  const made = base();
  return {
    name,
    files: async () => ({ ...(await made).files }),
    run: async (bench) => {
      const before = await made;
      const model = new GuestModel(before.disk);
      const older = Object.entries(before.snapshots ?? {});
      bench.expect({
        file: 'image',
        disk: model,
        snapshots: Object.fromEntries(older.map(([of, disk]) => [of, new GuestModel(disk)])),
        ...expect?.(bench, before),
      });
      const fileOf = (of: string): Storage | null =>
        of in before.files ? bench.storage(of) : null;
      await withWritable(bench.storage('image'), fileOf, open, (image) =>
        run(image, model, bench, before),
      );
    },
    also: goesOn,
    alsoOneIn: 20,
  };
}

/** Opens an image for writing; `work` closes it. */
function withWritable(
  storage: Storage,
  fileOf: (name: string) => Storage | null,
  options: OpenOptions | undefined,
  work: (image: Image) => Promise<void>,
): Promise<void> {
  return withKernel(async (kernel) => {
    const resolver: OpenOptions['resolver'] = ({ name }) => fileOf(name);
    const fixed = { format: 'qcow2', kernel, resolver, writable: true } as const;
    await work(await Image.open(storage, { ...fixed, ...options }));
  });
}

/** After a cut the image can be written again: what is written is there, and all else. */
async function goesOn(
  state: CrashState,
  [expected]: readonly ImageExpectation[],
): Promise<string | undefined> {
  const files = new Map([...state.files].map(([name, file]) => [name, file.copy()]));
  const random = new Random(state.cut);
  let disk: Uint8Array | undefined;
  try {
    const image = files.get('image')!;
    await withWritable(
      image,
      (name) => files.get(name) ?? null,
      undefined,
      async (opened) => {
        disk = await readAll(opened);
        await writeSome(opened, disk, random);
      },
    );
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    return `cannot be written again after the cut: ${error.message}`;
  }
  const again = { ...expected!, disk: new GuestModel(disk!), sizes: () => [disk!.length] };
  const fault = await judge(files, state.cut, again);
  return fault && `written again after the cut: ${fault}`;
}

/** Writes here and there, in `disk` too, and closes. */
async function writeSome(image: Image, disk: Uint8Array, random: Random): Promise<void> {
  for (let i = 0; i < 8; i++) {
    const length = Math.min(512 * (1 + random.below(8)), disk.length);
    const offset = 512 * random.below((disk.length - length) / 512 + 1);
    const bytes = new Uint8Array(length).fill(1 + random.below(255));
    disk.set(bytes, offset);
    await image.write(offset, bytes);
  }
  await image.close();
}
