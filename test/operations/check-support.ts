import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileResolver } from '../../src/node/open-image.ts';
import { type CheckOptions, type CheckResult, check } from '../../src/operations/check.ts';
import { FileStorage } from '../../src/storage/file.ts';
import { type RunResult, run } from '../support/run.ts';

/** Checks an image file, in this process. */
export async function checkImage(path: string, options: CheckOptions = {}): Promise<CheckResult> {
  const storage = new FileStorage(path, { sync: true });
  try {
    return await check(storage, { resolver: fileResolver(path, [], { sync: true }), ...options });
  } finally {
    storage.close();
  }
}

/** The counters of a result under qemu-img's names, those of 0 left out but for errors. */
export function counters(result: CheckResult): Record<string, number> {
  const all = {
    'total-clusters': result.totalClusters,
    'allocated-clusters': result.allocatedClusters,
    'fragmented-clusters': result.fragmentedClusters,
    'compressed-clusters': result.compressedClusters,
    corruptions: result.corruptions,
    leaks: result.leaks,
    'image-end-offset': result.imageEndOffset,
  };
  const present = Object.entries(all).filter(([, value]) => value !== 0);
  return { 'check-errors': result.checkErrors, ...Object.fromEntries(present) };
}

/** Exit status for counters, as qemu-img gives it. */
export function statusFor(result: CheckResult): number {
  if (result.checkErrors > 0) return 1;
  if (result.corruptions > 0) return 2;
  return result.leaks > 0 ? 3 : 0;
}

/** What qemu-img says of an image: its status and, if it could check it, its counters. */
export interface Oracle {
  readonly status: number;
  readonly stderr: string;
  readonly counters: Record<string, number> | undefined;
}

/** Runs `qemu-img check` on an image of a folder. */
export async function oracle(
  image: string,
  dir: string,
  args: readonly string[] = ['-f', 'qcow2', image],
): Promise<Oracle> {
  const result: RunResult = await run('qemu-img', ['check', '--output=json', ...args], dir);
  const { status, stdout, stderr } = result;
  if (stdout === '') return { status, stderr, counters: undefined };
  const { filename: _, format: __, ...found } = JSON.parse(stdout);
  return { status, stderr, counters: found };
}

/** Runs lines of a shell, one after the other, in a folder; a failing line does not end it. */
export async function shell(lines: readonly string[], dir: string): Promise<void> {
  await run('sh', ['-c', lines.join('\n')], dir);
}

/** Overwrites 64-bit words of a file: pairs of byte offset and value. */
export function patchWords(
  path: string,
  ...words: readonly [offset: number, word: bigint][]
): void {
  const bytes = readFileSync(path);
  for (const [offset, word] of words) bytes.writeBigUInt64BE(word, offset);
  writeFileSync(path, bytes);
}

/** Lines about single clusters that scripts look for, sorted: qemu-img's order is another. */
export function scriptLines(stderr: string): string[] {
  const wanted = /^(Leaked|ERROR) cluster \d|^ERROR OFLAG_COPIED/;
  return stderr
    .split('\n')
    .filter((line) => wanted.test(line))
    .sort();
}

/**
 * A fresh folder below `root` with the image `disk` made by shell lines, with `create` for qemu-img create
 * and `io` for qemu-io on it.
 */
export async function makeDisk(
  root: string,
  name: string,
  lines: readonly string[],
): Promise<string> {
  const dir = join(root, name.replace(/\W+/g, '-'));
  mkdirSync(dir);
  await shell(
    [
      'create() { qemu-img create -q -f qcow2 "$@"; }',
      'io() { for c in "$@"; do set -- "$@" -c "$c"; shift; done; qemu-io "$@" disk; }',
      ...lines,
    ],
    dir,
  );
  return dir;
}

/** Bit 63, "copied". */
export const COPIED = 1n << 63n;

/** Path of an image in a folder. */
export const at = (dir: string, image: string): string => join(dir, image);
