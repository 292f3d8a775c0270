import * as fs from 'node:fs';
import * as path from 'node:path';
import { run } from '../support/run.ts';
import { examine, type Outcome } from './invariants.ts';
import type { Mutant } from './mutate.ts';

/** What two readers made of one image. */
export interface Comparison {
  readonly ours: Outcome;
  /** The disk as qemu-img converts it; undefined if it complained. */
  readonly theirs: Uint8Array | undefined;
  readonly complaint: string;
}

/** Reads an image with both; the folder is used for its files. */
export async function compare(mutant: Mutant, folder: string): Promise<Comparison> {
  const ours = await examine(mutant);
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'image'), mutant.bytes);
  for (const [name, bytes] of mutant.files) fs.writeFileSync(path.join(folder, name), bytes);
  const convert = ['20', 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', 'image', 'disk'];
  const { status, stderr } = await run('timeout', convert, folder);
  const disk = path.join(folder, 'disk');
  if (status !== 0 || stderr !== '') return { ours, theirs: undefined, complaint: stderr };
  // A disk that is not read whole is not compared.
  const isSmall = fs.statSync(disk).size <= 1 << 20;
  return { ours, theirs: isSmall ? fs.readFileSync(disk) : undefined, complaint: '' };
}

/** Whether both give bytes, and the bytes differ. */
export function differs({ ours, theirs }: Comparison): boolean {
  if (theirs === undefined || !('bytes' in ours) || !ours.whole) return false;
  return Buffer.compare(ours.bytes, theirs) !== 0;
}
