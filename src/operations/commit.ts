import { Qcow2Error } from '../errors.ts';
import type { Chain } from '../image/backing-chain.ts';
import { emptyDisk } from '../image/empty-disk.ts';
import type { Image } from '../image/image.ts';
import { isUnallocated, Plan } from '../image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import type { Region } from '../kernel/arena.ts';
import { type OperationControl, pacer } from './control.ts';
import { readAhead, reserveMemory } from './read-ahead.ts';
import { resize } from './resize.ts';

/** How an overlay is committed. */
export interface CommitOptions extends OperationControl {
  /** How many files below the overlay the base lies. Default 1: it is its backing file. */
  depth?: number;
  /** The overlay keeps what it holds. Always so where other files lie between it and the base. */
  keep?: boolean;
}

/** Guest bytes mapped at once. */
const WINDOW_BYTES = 2 ** 40;
/** Bytes read and written at once. */
const PIECE_BYTES = 1024 * 1024;
/** Bytes of zeros written at once. */
const ZERO_BYTES = 2 ** 30;

/**
 * Writes what an overlay holds into a file below it, which is made longer if it is shorter than the
 * overlay. When that is durable the overlay is emptied. After any cut the overlay shows the same disk,
 * and committing again ends it. A base that other overlays have, too, changes for them.
 * @param image the overlay, open for writing; afterwards only `close` may follow
 * @param base what it is committed to, open for writing by itself: for every file between the two it
 *   must be the same file the overlay's chain leads to
 * @throws Qcow2Error INVALID_ARGUMENT: the overlay has no such file below it; UNSUPPORTED: the base cannot
 *   be made longer (version 2 with snapshots); READ_ONLY; ABORTED; and those of reading and writing
 * @example
 * import { commit, openImage } from 'qcow2';
 *
 * const base = await openImage('disk.qcow2', { writable: true });
 * // The base is open already: below the overlay it is shared.
 * const image = await openImage('overlay.qcow2', { writable: true, share: true });
 * await commit(image, base);
 * await image.close();
 * await base.close();
 */
export async function commit(
  image: Image,
  base: Image,
  options: CommitOptions = {},
): Promise<void> {
  const { depth = 1, signal, onProgress } = options;
  const keep = options.keep === true || depth > 1;
  requireBase(await image.chain(), image, base, depth);
  const total = image.virtualSize;
  const step = pacer(signal, 'the commit');
  await onProgress?.(0, total);
  // Refuses what cannot be written before anything has changed.
  if (!keep) await image.prepareWriting();
  await base.prepareWriting();
  if (base.virtualSize < total) await resize(base, total);
  const copier = new Copier(image, base, depth);
  await reserveMemory([image, base]);
  try {
    await copier.run(async (done) => {
      await step();
      await onProgress?.(done, total);
    });
  } finally {
    copier.release();
  }
  await base.flush();
  if (!keep) await image.withWritable((disk) => emptyDisk(disk, image.kernel));
  image.retire('it was committed');
  await onProgress?.(total, total);
}

/** Checks that the base is the file it should be. */
function requireBase(chain: Chain, image: Image, base: Image, depth: number): void {
  const { name } = image.storage;
  if (image.format === 'raw' || (depth === 1 && image.metadata?.backingFile === undefined)) {
    const given = image.outside.given.backingFile !== undefined;
    if (image.format === 'raw' || !given)
      throw new Qcow2Error('INVALID_ARGUMENT', 'Image does not have a backing file');
  }
  if (!Number.isInteger(depth) || depth < 1 || depth > chain.layers.length) {
    const text = `'${name}' has no file ${depth} levels below it; its chain has ${chain.layers.length}`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { value: depth });
  }
  const found = chain.layers[depth]?.layer.storage.identity;
  const identity = base.storage.identity;
  if (found === undefined || identity === undefined || found === identity) return;
  const text = `'${base.storage.name}' is not the file ${depth} levels below '${name}'`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { value: depth });
}

/** A guest range that files above the base answer. */
interface Stretch {
  start: number;
  end: number;
  isData: boolean;
}

/** Copies what lies above the base into it. */
class Copier {
  readonly #image: Image;
  readonly #base: Image;
  readonly #depth: number;
  readonly #piece: number;
  readonly #buffers: readonly [Region, Region];

  constructor(image: Image, base: Image, depth: number) {
    this.#image = image;
    this.#base = base;
    this.#depth = depth;
    this.#piece = Math.max(PIECE_BYTES, base.metadata?.geometry.clusterSize ?? 0);
    const { arena } = image.kernel;
    this.#buffers = [arena.allocate(this.#piece), arena.allocate(this.#piece)];
  }

  async run(step: (done: number) => Promise<void>): Promise<void> {
    // The base answers for none of what is read: writing it meanwhile does not matter.
    const read = async ({ start, end, isData }: Stretch, { bytes }: Region): Promise<void> => {
      if (isData) await this.#image.read(start, bytes.subarray(0, end - start));
    };
    for await (const { piece, buffer } of readAhead(this.#pieces(), this.#buffers, read)) {
      const { start, end, isData } = piece;
      if (isData) await this.#base.write(start, buffer.bytes.subarray(0, end - start));
      else await this.#base.writeZeroes(start, end - start, { unmap: true });
      await step(end);
    }
  }

  release(): void {
    for (const buffer of this.#buffers) this.#image.kernel.arena.release(buffer);
  }

  /** Stretches cut into what is written at once. */
  async *#pieces(): AsyncGenerator<Stretch> {
    for await (const { start, end, isData } of this.#stretches()) {
      const most = isData ? this.#piece : ZERO_BYTES;
      for (let at = start; at < end; ) {
        const to = Math.min(end, (Math.floor(at / most) + 1) * most);
        yield { start: at, end: to, isData };
        at = to;
      }
    }
  }

  /** What files above the base answer, in order, joined where it is treated alike. */
  async *#stretches(): AsyncGenerator<Stretch> {
    const plan = new Plan();
    const size = this.#image.virtualSize;
    let last: Stretch | undefined;
    for (let at = 0; at < size; ) {
      const stop = Math.min(size, at + WINDOW_BYTES);
      at = await this.#image.withChain((chain) => chain.map(at, stop, plan, 0, this.#depth));
      for (let i = 0; i < plan.count; i++) {
        if (this.#isBelow(plan, i)) continue;
        const start = plan.guest[i]!;
        const end = start + plan.length[i]!;
        const isData = plan.kind[i] === RUN_DATA || plan.kind[i] === RUN_COMPRESSED;
        if (last?.end === start && last.isData === isData) {
          last.end = end;
          continue;
        }
        if (last !== undefined) yield last;
        last = { start, end, isData };
      }
    }
    if (last !== undefined) yield last;
  }

  /** Whether the base answers for a run. A file between that has ended stands for zeros. */
  #isBelow(plan: Plan, i: number): boolean {
    return isUnallocated(plan.kind[i]!) && plan.layer[i] === this.#depth - 1;
  }
}
