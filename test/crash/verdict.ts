import * as fs from 'node:fs';
import * as path from 'node:path';
import { isQcow2Error } from '../../src/errors.ts';
import { INCOMPATIBLE_DIRTY } from '../../src/format/feature-bits.ts';
import { Image } from '../../src/image/image.ts';
import type { OutsideResolver } from '../../src/image/open-gate.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import type { KernelExports } from '../../src/kernel/exports.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import { loadExports } from '../../src/kernel/load.ts';
import { type CheckResult, check } from '../../src/operations/check.ts';
import { repair } from '../../src/operations/repair.ts';
import { run } from '../support/run.ts';
import type { GuestModel } from './guest-model.ts';
import type { PagedStorage } from './paged-storage.ts';

/** Files by name, as a cut left them. */
export type Files = ReadonlyMap<string, PagedStorage>;

/** What must hold of one image after a cut. */
export interface ImageExpectation {
  /** Name of the image's file. Files it names are found by their names among the others. */
  readonly file: string;
  /** What the guest may read. Its size is the disk's, unless `sizes` tells others. */
  readonly disk: GuestModel;
  /** Lengths of the disk that are right at a cut, in bytes. */
  readonly sizes?: (cut: number) => readonly number[];
  /** What each internal snapshot must read, by name; a snapshot with another name is an error. */
  readonly snapshots?: Readonly<Record<string, GuestModel>>;
  /** What snapshots read is not looked at: a file below them is another one. */
  readonly anySnapshots?: boolean;
  /** Of `snapshots`, those that must be there at a cut. Default all. */
  readonly mustHave?: (cut: number) => readonly string[];
  /** The image counts lazily: while its dirty bit is set, counters may be too low. */
  readonly lazyRefcounts?: boolean;
  /** Copied flags may be wrong: version 2 has no dirty bit to tell of it. */
  readonly copiedFlags?: boolean;
  /** The image was damaged before: a repair must make it sound, and change nothing the guest has. */
  readonly isDamaged?: boolean;
  /** What else must hold: says what does not. */
  readonly also?: (image: Image) => Promise<string | undefined>;
  /** Whether the file need not be an image at a cut: it is still being made. */
  readonly mayBeUnfinished?: (cut: number) => boolean;
}

/** Instances not in use: making one costs more than judging a state. */
const idle: KernelExports[] = [];

/** Lends a kernel: its memory is used again and again, each time from the start. */
export async function withKernel<T>(work: (kernel: Kernel) => Promise<T>): Promise<T> {
  const exports = idle.pop() ?? loadExports('wasm-simd');
  try {
    return await work(new Kernel('wasm-simd', exports));
  } finally {
    idle.push(exports);
  }
}

function resolverOf(files: Files): OutsideResolver {
  return ({ name }) => files.get(name)?.copy() ?? null;
}

/** Opens an image of a state with this library. The state stays as it is. */
export async function withImage<T>(
  files: Files,
  file: string,
  options: OpenOptions,
  work: (image: Image) => Promise<T>,
): Promise<T> {
  return withKernel(async (kernel) => {
    const storage = files.get(file)!.copy();
    const resolver = resolverOf(files);
    const image = await Image.open(storage, { format: 'qcow2', resolver, kernel, ...options });
    try {
      return await work(image);
    } finally {
      await image.close();
    }
  });
}

/**
 * What is wrong with a state by our own reading; undefined: nothing. It opens, `check` finds leaks at
 * most (or what the dirty bit explains), and the disk and its snapshots read what they may.
 */
export async function judge(
  files: Files,
  cut: number,
  expected: ImageExpectation,
): Promise<string | undefined> {
  const { file } = expected;
  if (expected.isDamaged) {
    const fault = await judgeRepaired(files, cut, expected);
    if (fault !== undefined) return fault;
  }
  let isOpen = false;
  try {
    return await withImage(files, file, {}, async (image) => {
      isOpen = true;
      return (
        (await judgeDisk(image, cut, expected)) ??
        (await judgeSnapshots(image, files, cut, expected)) ??
        (await expected.also?.(image)) ??
        (expected.isDamaged ? undefined : await judgeMetadata(image, files, expected))
      );
    });
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    if (!isOpen && expected.mayBeUnfinished?.(cut) && error.code === 'NOT_QCOW2') return undefined;
    return `${file}${isOpen ? '' : ' does not open'}: ${error.message}`;
  }
}

/** What is wrong with a damaged state once it is repaired. */
async function judgeRepaired(
  files: Files,
  cut: number,
  { isDamaged: _, ...expected }: ImageExpectation,
): Promise<string | undefined> {
  const { file } = expected;
  const storage = files.get(file)!.copy();
  const { after, unrepaired } = await repair(storage, { resolver: resolverOf(files) });
  const found = after.corruptions + after.leaks + after.checkErrors + after.refusals;
  if (found > 0 || unrepaired.length > 0)
    return `${file}: not repaired: ${[...unrepaired, ...after.findings.map(({ message }) => message)].join('; ')}`;
  const fault = await judge(new Map([...files, [file, storage]]), cut, expected);
  return fault && `repaired: ${fault}`;
}

async function judgeDisk(
  image: Image,
  cut: number,
  { file, disk, sizes }: ImageExpectation,
): Promise<string | undefined> {
  const right = sizes?.(cut) ?? [disk.size];
  if (!right.includes(image.virtualSize))
    return `${file}: the disk has ${image.virtualSize} bytes, not ${right.join(' or ')}`;
  const fault = disk.findFault(cut, await readAll(image));
  return fault && `${file}: ${fault}`;
}

async function judgeSnapshots(
  image: Image,
  files: Files,
  cut: number,
  { file, snapshots = {}, mustHave, anySnapshots }: ImageExpectation,
): Promise<string | undefined> {
  if (anySnapshots) return undefined;
  const there = (await image.snapshots()).map(({ name }) => name.text);
  for (const name of mustHave?.(cut) ?? Object.keys(snapshots))
    if (!there.includes(name)) return `${file}: snapshot '${name}' is gone`;
  for (const name of there) {
    const model = snapshots[name];
    if (model === undefined) return `${file}: snapshot '${name}' is not known`;
    const disk = await withImage(files, file, { snapshot: { name } }, readAll);
    const fault = model.findFault(cut, disk);
    if (fault !== undefined) return `${file}: snapshot '${name}': ${fault}`;
  }
  return undefined;
}

/** Findings looked at; a dirty image may have one for every cluster. */
const MAX_FINDINGS = 100_000;

async function judgeMetadata(
  image: Image,
  files: Files,
  { file, lazyRefcounts, copiedFlags = false }: ImageExpectation,
): Promise<string | undefined> {
  const storage = files.get(file)!;
  const resolver = resolverOf(files);
  const found = await withKernel((kernel) =>
    check(storage, { resolver, kernel, maxFindings: MAX_FINDINGS }),
  );
  const isDirty = (image.metadata!.header.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n;
  if (isDirty && !lazyRefcounts) return `${file} is marked dirty`;
  const faults = faultsOf(found, isDirty, copiedFlags);
  return faults.length > 0 ? `${file}: ${faults.join('; ')}` : undefined;
}

/** Findings that are more than leaks, and that are not explained. */
function faultsOf(found: CheckResult, isDirty: boolean, copiedFlags: boolean): string[] {
  if (found.corruptions + found.checkErrors + found.refusals === 0) return [];
  if (found.findingsOmitted > 0) return [`${found.findingsOmitted} findings are not listed`];
  return found.findings
    .filter((finding) => finding.class !== 'leak')
    .filter(({ structure, message }) => {
      const isCounter = structure === 'refcount block' && message.startsWith('ERROR cluster');
      const isFlag = message.startsWith('ERROR OFLAG_COPIED');
      return !(isDirty && (isCounter || isFlag)) && !(copiedFlags && isFlag);
    })
    .map(({ message }) => message);
}

/** The whole disk, read anew through the image. */
export async function readAll(image: Image): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.virtualSize);
  await image.read(0, bytes);
  return bytes;
}

/**
 * What qemu-img makes of a state, in a folder of its own; undefined: nothing is wrong. It checks (and
 * a dirty image is repaired first), and reads what may be read.
 */
export async function judgeWithQemu(
  files: Files,
  cut: number,
  expected: ImageExpectation,
  folder: string,
): Promise<string | undefined> {
  const { file } = expected;
  for (const [name, storage] of files) fs.writeFileSync(path.join(folder, name), storage.bytes);
  const checked = await run('qemu-img', ['check', '-f', 'qcow2', file], folder);
  const isSound = checked.status === 0 || checked.status === 3;
  if (!isSound) {
    if (expected.mayBeUnfinished?.(cut) && /not in qcow2 format/.test(checked.stderr)) return;
    if (!expected.lazyRefcounts && !expected.copiedFlags && !expected.isDamaged)
      return `qemu-img check of ${file}: ${lastWords(checked)}`;
    const repaired = await run('qemu-img', ['check', '-r', 'all', '-f', 'qcow2', file], folder);
    const again = await run('qemu-img', ['check', '-f', 'qcow2', file], folder);
    if (again.status !== 0)
      return `qemu-img check -r all of ${file}: ${lastWords(repaired)} ${lastWords(again)}`;
  }
  const converted = await run(
    'qemu-img',
    ['convert', '-f', 'qcow2', '-O', 'raw', file, 'disk.raw'],
    folder,
  );
  if (converted.status !== 0) return `qemu-img convert of ${file}: ${lastWords(converted)}`;
  const disk = new Uint8Array(fs.readFileSync(path.join(folder, 'disk.raw')));
  const fault = expected.disk.findFault(cut, disk);
  return fault && `${file}, read by qemu-img: ${fault}`;
}

function lastWords({ stdout, stderr }: { stdout: string; stderr: string }): string {
  return `${stderr} ${stdout}`.replace(/\s+/g, ' ').trim().slice(0, 400);
}
