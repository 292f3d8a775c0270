import { isQcow2Error, type Qcow2ErrorCode } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import type { OutsideResolver } from '../../src/image/open-gate.ts';
import type { OpenOptions } from '../../src/image/open-options.ts';
import { createKernel, type Kernel, type KernelBackend } from '../../src/kernel/kernel.ts';
import { check } from '../../src/operations/check.ts';
import { convert } from '../../src/operations/convert.ts';
import { backingChainInfo, info } from '../../src/operations/info.ts';
import { map } from '../../src/operations/map.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Mutant } from './mutate.ts';

/** What a file can be blamed for; INVALID_ARGUMENT and IO are not among it. */
const BLAMES: readonly Qcow2ErrorCode[] = [
  'NOT_QCOW2',
  'UNSUPPORTED',
  'MALFORMED',
  'TOO_LARGE',
  'NEED_KEY',
  'BAD_ENTRY',
  'BAD_DATA',
  'TRUNCATED',
  'REFUSED',
  'EXTERNAL_REFUSED',
];

/** What is no concern of a check. */
const CHECK_DOES_NOT_SEE: readonly Qcow2ErrorCode[] = ['NEED_KEY', 'EXTERNAL_REFUSED'];

/** Most seconds of processor time for all that is done to one image. */
const SECONDS = 2;
/** Most bytes of kernel memory an image, its chain and three of its snapshots take. */
const ARENA_BYTES = 48 << 20;
/** Guest bytes read at once, and disks up to so many are read whole. */
const READ_BYTES = 1 << 20;
export const WHOLE_BYTES = 1 << 20;
/** Ranges of a map looked at. */
const MAP_ENTRIES = 20_000;
/** Images one kernel serves: a new instance for each costs more than all else. */
const IMAGES_PER_KERNEL = 12;

/** Reads like memory, and refuses requests no image should lead to. */
class GuardedStorage extends MemoryStorage {
  override read(offset: number, into: Uint8Array): number {
    if (!Number.isSafeInteger(offset) || offset < 0) throw new Error(`read at ${offset}`);
    if (into.length > 68 << 20) throw new Error(`read of ${into.length} bytes`);
    return super.read(offset, into);
  }
}

/** Hands out kernels, a new one every so many images. */
class Kernels {
  readonly #backend: KernelBackend;
  readonly #images: number;
  #kernel: Kernel | undefined;
  #used = 0;

  constructor(backend: KernelBackend, images = IMAGES_PER_KERNEL) {
    this.#backend = backend;
    this.#images = images;
  }

  next(): Kernel {
    if (this.#kernel === undefined || ++this.#used >= this.#images) {
      this.#kernel = createKernel({ backend: this.#backend });
      this.#used = 0;
    }
    return this.#kernel;
  }
}

const KERNELS = {
  'wasm-simd': new Kernels('wasm-simd'),
  wasm: new Kernels('wasm'),
  // Its memory grows by copying.
  js: new Kernels('js', 1),
} as const;

/** What came of reading a disk: bytes, or the error. */
export type Outcome =
  | { readonly bytes: Uint8Array; readonly whole: boolean }
  | { readonly code: Qcow2ErrorCode; readonly message: string };

/** How much to do to an image. */
export interface Effort {
  /** Read it again with another kernel and in other pieces. */
  readonly again?: KernelBackend | undefined;
  /** Check it too. */
  readonly check?: boolean;
  /** Convert it, and read the copy. */
  readonly convert?: boolean;
}

/**
 * Does everything to an image and holds it to the rules.
 * @throws Error what rule was broken
 */
export async function examine(mutant: Mutant, effort: Effort = {}): Promise<Outcome> {
  const started = performance.now();
  const outcome = await examineOnce(mutant, effort);
  if (performance.now() - started < SECONDS * 1000) return outcome;
  // On a busy machine time passes that nobody spent; asking for the time spent costs a millisecond.
  const before = process.cpuUsage();
  await examineOnce(mutant, effort);
  const { user, system } = process.cpuUsage(before);
  const seconds = (user + system) / 1e6;
  if (seconds > SECONDS) throw new Error(`took ${seconds} seconds`);
  return outcome;
}

async function examineOnce(mutant: Mutant, effort: Effort): Promise<Outcome> {
  const kernel = KERNELS['wasm-simd'].next();
  const arena = kernel.arena.u8.length;
  let outcome: Outcome | undefined;
  const failure = await attempt(() =>
    withImage(mutant, kernel, async (image) => {
      await attempt(() => describe(mutant, image));
      await attempt(() => mapAll(image));
      outcome = await readDisk(image);
    }),
  );
  outcome ??= failure ?? unreachable();
  const grown = kernel.arena.u8.length - arena;
  if (grown > ARENA_BYTES) throw new Error(`the arena grew by ${grown} bytes`);
  if (effort.again !== undefined) await readAgain(mutant, effort.again, outcome);
  if (effort.check) await checkAll(mutant);
  if (effort.convert && 'bytes' in outcome && outcome.whole) await convertAll(mutant, outcome);
  return outcome;
}

function unreachable(): never {
  throw new Error('opening neither succeeded nor failed');
}

/** Runs work that may fail, in the way a broken image lets things fail. */
async function attempt(work: () => Promise<void>): Promise<Outcome | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    const { code, message } = error;
    if (!BLAMES.includes(code)) throw new Error(`unfitting code ${code}: ${message}`);
    if (/[\n\r]/.test(message) || message.length > 10_000) {
      throw new Error(`message is not one line of good length: ${message}`);
    }
    return { code, message };
  }
}

function resolverOf({ files }: Mutant): OutsideResolver {
  return ({ name }) => {
    const bytes = files.get(name);
    return bytes === undefined ? null : new GuardedStorage(bytes, name);
  };
}

async function withImage(
  mutant: Mutant,
  kernel: Kernel,
  work: (image: Image) => Promise<void>,
  options: OpenOptions = {},
): Promise<void> {
  const storage = new GuardedStorage(mutant.bytes, 'image');
  const resolver = resolverOf(mutant);
  const image = await Image.open(storage, { kernel, resolver, ...options });
  try {
    await work(image);
  } finally {
    await image.close();
  }
}

async function describe(mutant: Mutant, image: Image): Promise<void> {
  JSON.stringify(await info(image));
  await backingChainInfo(image, resolverOf(mutant));
  for (const { id } of (await image.snapshots()).slice(0, 3)) {
    const snapshot = { id: id.text };
    await attempt(() => readSnapshot(mutant, image.kernel, snapshot));
  }
}

function readSnapshot(mutant: Mutant, kernel: Kernel, snapshot: { id: string }): Promise<void> {
  const read = async (image: Image): Promise<void> => {
    await image.read(0, new Uint8Array(Math.min(image.virtualSize, READ_BYTES)));
  };
  return withImage(mutant, kernel, read, { snapshot });
}

/** The map covers the disk without gaps. */
async function mapAll(image: Image): Promise<void> {
  let at = 0;
  let entries = 0;
  for await (const entry of map(image)) {
    if (entry.start !== at || !(entry.length > 0)) throw new Error(`map: gap at ${at}`);
    at += entry.length;
    if (++entries > MAP_ENTRIES) return;
  }
  if (at !== image.virtualSize) throw new Error(`map ends at ${at} of ${image.virtualSize}`);
}

async function readDisk(image: Image, piece = READ_BYTES): Promise<Outcome> {
  const size = image.virtualSize;
  const bytes = new Uint8Array(Math.min(size, WHOLE_BYTES));
  const failure = await attempt(async () => {
    for (let at = 0; at < bytes.length; at += piece) {
      // What is not written stays as it is and shows in the comparison.
      await image.read(at, bytes.subarray(at, at + piece).fill(0x5a));
    }
    const tail = new Uint8Array(Math.min(size, 4096));
    await image.read(size - tail.length, tail);
  });
  return failure ?? { bytes, whole: size <= WHOLE_BYTES };
}

async function readAnew(
  mutant: Mutant,
  kernel: Kernel,
  piece?: number,
  format?: 'qcow2' | 'raw',
): Promise<Outcome> {
  let outcome: Outcome | undefined;
  const read = async (image: Image): Promise<void> => {
    outcome = await readDisk(image, piece);
  };
  const options = format === undefined ? {} : { format };
  const failure = await attempt(() => withImage(mutant, kernel, read, options));
  return outcome ?? failure ?? unreachable();
}

/** Another kernel and other pieces: the same bytes, or the same error. */
async function readAgain(mutant: Mutant, backend: KernelBackend, first: Outcome): Promise<void> {
  const second = await readAnew(mutant, KERNELS[backend].next());
  requireSame(first, second, `kernel ${backend}`);
  if (!('bytes' in first)) return;
  const third = await readAnew(mutant, KERNELS['wasm-simd'].next(), 12_345);
  requireSame(first, third, 'small pieces');
}

/** Where a check finds nothing wrong, the map of the image's own file does not fail. */
async function checkAll(mutant: Mutant): Promise<void> {
  let isSound = false;
  await attempt(async () => {
    const storage = new GuardedStorage(mutant.bytes, 'image');
    const found = await check(storage, { resolver: resolverOf(mutant) });
    isSound = found.corruptions + found.checkErrors + found.refusals === 0;
    JSON.stringify(found);
  });
  if (!isSound || mutant.files.size > 0) return;
  const failure = await attempt(() => withImage(mutant, KERNELS.wasm.next(), mapAll));
  if (failure && 'code' in failure && !CHECK_DOES_NOT_SEE.includes(failure.code)) {
    throw new Error(`check finds nothing, map says ${failure.message}`);
  }
}

/** A copy in either format reads as the image does. */
async function convertAll(mutant: Mutant, first: Outcome): Promise<void> {
  const kernel = KERNELS['wasm-simd'].next();
  for (const format of ['raw', 'qcow2'] as const) {
    const storage = new GuardedStorage(new Uint8Array(0), 'copy');
    const options = { format, compress: format === 'qcow2', create: { clusterSize: 4096 } };
    await withImage(mutant, kernel, (image) => convert([image], { storage }, options));
    const copy = { bytes: storage.bytes, files: new Map(), description: 'a copy' };
    const read = await readAnew(copy, kernel, undefined, format);
    requireSame(first, read, `converted to ${format}`);
  }
}

function requireSame(first: Outcome, second: Outcome, what: string): void {
  if ('bytes' in first && 'bytes' in second) {
    if (Buffer.compare(first.bytes, second.bytes) !== 0) throw new Error(`${what}: other bytes`);
  } else {
    const [a, b] = [first, second].map((one) => ('bytes' in one ? 'bytes' : one.message));
    if (a !== b) throw new Error(`${what}: '${a}' and '${b}'`);
  }
}
