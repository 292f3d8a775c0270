import * as path from 'node:path';
import type { Kernel } from '../kernel/kernel.ts';
import { packingByName } from '../node/packing.ts';
import { shownName } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';
import { openSource } from '../workers/input-files.ts';
import type { InputFiles } from '../workers/messages.ts';
import { type SettleOptions, settleInputs } from '../workers/settle-inputs.ts';
import type { FileIdentity } from './file-identity.ts';
import type { BatchJob } from './jobs.ts';
import { type Http, sourceIdentity, storageIdentity } from './source-identity.ts';

/** What a job is run with, as far as its inputs are concerned. */
interface InputOptions extends Pick<SettleOptions, 'onKept'> {
  identify?: boolean | undefined;
  http?: Http;
  signal?: AbortSignal | undefined;
}

/** The inputs of a job as they can be read. */
export interface JobInputs {
  inputs: BatchJob['inputs'];
  /** The only one is a packed raw disk, unpacked while it is converted: not a file to read at will. */
  isStream: boolean;
  /** Gives up what is kept of them. */
  close: () => void;
}

/**
 * The inputs of a job. Those that come packed are kept unpacked if they are read more than once, or if it
 * is asked for what lies below them; not so a packed raw disk, which has nothing below and a digest.
 * @throws Qcow2Error those of `settleInputs`
 */
export async function settledInputs(
  { inputs, target, checkSource = false, verify = false }: BatchJob,
  { identify = false, http, signal, onKept }: InputOptions,
): Promise<JobInputs> {
  // Read once, in whatever way.
  if (!checkSource && !verify && !identify) return { inputs, isStream: false, close: () => {} };
  const onePass = inputs.length === 1 && packingByName(inputs[0]!.path) !== undefined;
  const spill = spillOf(target);
  const settled = await settleInputs({ inputs, http, signal, spill, onePass, onKept });
  // Converting begins at its first byte once more.
  await settled.stream?.close();
  return { ...settled, isStream: settled.stream !== undefined };
}

/** Bytes of an input that comes packed kept in memory: what a thread takes besides stays within its share. */
const KEPT_BYTES = 2 ** 20;

/** Where an input that comes packed is kept that is too large for memory: a worker may write nowhere else. */
export function spillOf(target: string): { folder: string; memoryBytes: number } {
  return { folder: path.dirname(target), memoryBytes: KEPT_BYTES };
}

/** All files that will be read; opening them finds what lies below the inputs. */
export async function filesRead(
  files: InputFiles,
  isStream: boolean,
  kernel: Kernel,
  signal: AbortSignal | undefined,
): Promise<FileIdentity[]> {
  const { inputs, http } = files;
  if (isStream) return [await sourceIdentity(inputs[0]!.path, { ...http, signal })];
  const images = await openSource(files, kernel, signal);
  try {
    const storages = new Map<string, Storage>();
    for (const image of images)
      for (const { layer } of (await image.chain()).layers)
        for (const storage of [layer.storage, layer.dataStorage])
          if (storage.name) storages.set(storage.identity ?? storage.name, storage);
    const identities: FileIdentity[] = [];
    for (const storage of storages.values())
      identities.push(await identityOf(storage, files, signal));
    return identities;
  } finally {
    for (const image of images) await image.close();
  }
}

/** Of an input that is kept unpacked the one it was. */
async function identityOf(
  storage: Storage,
  { inputs, http }: InputFiles,
  signal: AbortSignal | undefined,
): Promise<FileIdentity> {
  const packed = inputs.find(
    ({ copy, path }) => copy !== undefined && shownName(path) === storage.name,
  );
  return packed ? sourceIdentity(packed.path, { ...http, signal }) : storageIdentity(storage);
}
