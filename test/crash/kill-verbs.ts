import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Image } from '../../src/image/image.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { converted } from './guest-cases.ts';
import { GuestModel } from './guest-model.ts';
import type { ImageExpectation } from './verdict.ts';

export const MIB = 2 ** 20;
export const SIZE = 2 * MIB;
export const CONTENT = makeContent('mixed', SIZE, 3);

/** What may be found of an image. At a cut of 0 the command was killed, at 1 it was done. */
export interface Expectation extends Omit<ImageExpectation, 'file' | 'also'> {
  /** What else must hold: says what does not. `ended`: the command was done. */
  readonly also?: (image: Image, ended: boolean) => Promise<string | undefined>;
  /** The file `backing`, where the command writes to it, too. */
  readonly backing?: Omit<ImageExpectation, 'file'> & { readonly format: 'qcow2' | 'raw' };
}

/** A verb that writes: what it works on, and what may be found of it. */
export interface Verb {
  readonly name: string;
  /** Its words, one blank between them; '' is an empty one. */
  readonly argv: string;
  prepare(folder: string): Promise<Expectation>;
}

/** A disk that reads all as before or all as after; at a cut of 1 as after. */
export class Exchanged extends GuestModel {
  readonly #before: GuestModel;

  constructor(before: Uint8Array, after: Uint8Array) {
    super(after);
    this.#before = new GuestModel(before);
  }

  override findFault(cut: number, disk: Uint8Array): string | undefined {
    const fault = super.findFault(cut, disk);
    return fault && cut === 0 ? this.#before.findFault(cut, disk) : fault;
  }
}

export async function writeRaw(folder: string): Promise<void> {
  fs.writeFileSync(path.join(folder, 'source'), CONTENT);
}

/** An image of small clusters, which takes many tables and counters. */
export async function writeImage(folder: string, name = 'image'): Promise<void> {
  const { files } = await converted(SIZE, { clusterSize: 512 }, { content: CONTENT });
  fs.writeFileSync(path.join(folder, name), files.image!);
}

/** The image, with a snapshot `old` of what it was before parts of it were written. */
export async function writeSnapshot(
  folder: string,
): Promise<{ old: Uint8Array; disk: Uint8Array }> {
  await writeImage(folder);
  await runOk('qemu-img', ['snapshot', '-c', 'old', 'image'], folder);
  const disk = CONTENT.slice();
  const commands: string[] = [];
  for (let at = 0; at < SIZE; at += 256 * 1024) {
    disk.fill(0x41, at, at + 64 * 1024);
    commands.push('-c', `write -P 0x41 ${at} 64k`);
  }
  await runOk('qemu-io', ['-f', 'qcow2', ...commands, 'image'], folder);
  return { old: CONTENT, disk };
}

export const whole = (disk: Uint8Array): Expectation => ({ disk: new GuestModel(disk) });

/** Verbs that make a new file: it is not there, or whole. */
export const MAKING: readonly Verb[] = [
  {
    name: 'create',
    argv: 'create -q -f qcow2 -o cluster_size=512,preallocation=metadata target 2M',
    prepare: async () => whole(new Uint8Array(SIZE)),
  },
  {
    name: 'create, preallocated',
    argv: 'create -q -f qcow2 -o preallocation=full target 2M',
    prepare: async () => whole(new Uint8Array(SIZE)),
  },
  {
    name: 'convert',
    argv: 'convert -f raw -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT);
    },
  },
  {
    name: 'convert, compressed, two threads',
    argv: 'convert -m 2 -c -f raw -O qcow2 source target',
    prepare: async (folder) => {
      const content = makeContent('mixed', 12 * MIB, 3);
      fs.writeFileSync(path.join(folder, 'source'), content);
      return whole(content);
    },
  },
  {
    name: 'convert over an image',
    argv: 'convert -f raw -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      await runOk('qemu-img', 'create -q -f qcow2 target 2M'.split(' '), folder);
      return { disk: new Exchanged(new Uint8Array(SIZE), CONTENT) };
    },
  },
  {
    name: 'convert --bitmaps',
    argv: 'convert --bitmaps -f qcow2 -O qcow2 -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeImage(folder, 'source');
      await runOk('qemu-img', 'bitmap --add -g 512 source bits'.split(' '), folder);
      await runOk('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 1M', 'source'], folder);
      const disk = CONTENT.slice().fill(7, MIB, 2 * MIB);
      const also: Expectation['also'] = async (image) => {
        const names = (await image.bitmaps()).map((bitmap) => bitmap.name.text);
        return names.join() === 'bits' ? undefined : `bitmaps: ${names.join()}`;
      };
      return { ...whole(disk), also };
    },
  },
  {
    name: 'dd',
    argv: 'dd -f raw -O qcow2 bs=512 count=4000 if=source of=target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT.subarray(0, 4000 * 512));
    },
  },
  {
    name: 'adopt',
    argv: 'adopt -q -f raw -o cluster_size=512 source target',
    prepare: async (folder) => {
      await writeRaw(folder);
      return whole(CONTENT);
    },
  },
];
