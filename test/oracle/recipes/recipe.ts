import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Content, makeContent } from '../../support/data.ts';
import { run } from '../../support/run.ts';
import { qemuImg, qemuIo } from '../tools.ts';

/** One step of making an image, run in the recipe's own folder. */
export type Step = (dir: string) => Promise<void>;

/** What `qemu-img info` must say of the image: proof that the recipe made what it names. */
export interface Facts {
  readonly clusterSize?: number;
  readonly virtualSize?: number;
  readonly snapshots?: readonly string[];
  /** The disk had another size when a snapshot was taken. */
  readonly resized?: boolean;
  /** Reading the disk needs a key that is not given: both tools must refuse. */
  readonly encrypted?: boolean;
  /** The files keep their holes, which decide what the oracle calls zero within data. */
  readonly sparse?: boolean;
  /** A subset of the format-specific data. */
  readonly specific?: Readonly<Record<string, unknown>>;
}

/** How to make one image. */
export interface Recipe {
  readonly name: string;
  readonly image: string;
  readonly steps: readonly Step[];
  readonly facts: Facts;
}

/** The image's file name in every recipe. */
export const IMAGE = 'disk.qcow2';

/** What images are converted from; nothing reads it once the image is made. */
export const SOURCE = 'source.raw';

/** A qemu-img run; the words are split at blanks and `{dir}` stands for the recipe's folder. */
export function img(line: string): Step {
  return imgWords(...line.split(/\s+/));
}

/** {@link img} for words that hold blanks. */
export function imgWords(...words: readonly string[]): Step {
  return async (dir) => {
    await qemuImg(
      words.map((word) => word.replaceAll('{dir}', dir)),
      dir,
    );
  };
}

/** One qemu-io run of several commands on {@link IMAGE}. */
export function io(...commands: readonly string[]): Step {
  return ioOn(IMAGE, ...commands);
}

/** One qemu-io run of several commands on a qcow2 file. */
export function ioOn(image: string, ...commands: readonly string[]): Step {
  return async (dir) => {
    await qemuIo(image, commands, dir);
  };
}

/** A qemu-io run that is killed after its last command: the image is left as a crash leaves it. */
export function ioKilled(...commands: readonly string[]): Step {
  return async (dir) => {
    const all = [...commands, 'sigraise 9'].flatMap((command) => ['-c', command]);
    const result = await run('qemu-io', ['-f', 'qcow2', ...all, IMAGE], dir);
    if (result.status !== 137) throw new Error(`${result.command}: status ${result.status}`);
  };
}

/** Writes a raw file of deterministic content. */
export function raw(name: string, kind: Content, length: number, seed?: number): Step {
  return async (dir) => writeFileSync(join(dir, name), makeContent(kind, length, seed));
}

/** Changes the bytes of a file by hand. */
export function patch(change: (bytes: Buffer) => void, name = IMAGE): Step {
  return async (dir) => {
    const path = join(dir, name);
    const bytes = readFileSync(path);
    change(bytes);
    writeFileSync(path, bytes);
  };
}

/** Cuts bytes off the end of a file. */
export function cutEnd(count: number, name = IMAGE): Step {
  return async (dir) => {
    const path = join(dir, name);
    truncateSync(path, readFileSync(path).length - count);
  };
}

/** Makes an empty {@link IMAGE} with `-o` options. */
export function create(options: string, size: number | string): Step {
  return img(`create -q -f qcow2 -o ${options} ${IMAGE} ${size}`);
}

/** Puts a recipe together; its image is {@link IMAGE}. */
export function recipe(name: string, facts: Facts, ...steps: readonly Step[]): Recipe {
  return { name, image: IMAGE, steps, facts };
}
