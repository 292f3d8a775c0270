import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { isUnallocated, Plan } from '../image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import type { Storage } from '../storage/storage.ts';

/** Guest bytes mapped at once when looking for data; the plan may end it earlier. */
const WINDOW_BYTES = 2 ** 40;

/** `data`: what must be read; `overlay`: also zeros that must hide a backing file; `all`: everything. */
export type WantedChunks = 'data' | 'overlay' | 'all';

const WHOLE_DISK: DiskRange = { offset: 0, length: Number.MAX_SAFE_INTEGER };

/** A part of a disk, in guest bytes; what lies behind the disk's end does not count. */
export interface DiskRange {
  offset: number;
  length: number;
}

/** What a converting thread reads from: one image, or several one after the other. */
export class Source {
  readonly images: readonly Image[];
  readonly range: DiskRange;
  /** Bytes of all disks together, or of the range chosen. */
  readonly size: number;
  /** Where each image begins, and the last one ends; negative before the range chosen. */
  readonly #offsets: readonly number[];
  readonly #plan = new Plan();

  /**
   * @param range the part of the disks that is read, as if it were all
   * @throws Qcow2Error INVALID_ARGUMENT
   */
  constructor(images: readonly Image[], range: DiskRange = WHOLE_DISK) {
    requireRange(range);
    this.images = images;
    this.range = range;
    const offsets = [-range.offset];
    for (const image of images) offsets.push(offsets.at(-1)! + image.virtualSize);
    this.#offsets = offsets;
    this.size = Math.max(0, Math.min(range.length, offsets.at(-1)!));
  }

  /**
   * Fills `into` with guest bytes from `start` on; zeros behind the end. Marks in `leave` (one byte
   * per `unit` bytes) what the image itself leaves to its backing file.
   */
  async read(start: number, into: Uint8Array, unit = 0, leave?: Uint8Array): Promise<void> {
    leave?.fill(unit > 0 ? 1 : 0);
    const end = Math.min(start + into.length, this.size);
    for (let at = start; at < end; ) {
      const { image, offset, next } = this.#at(at);
      const stop = Math.min(end, next);
      at = await image.withChain(async (chain) => {
        const reached = await chain.map(at - offset, stop - offset, this.#plan);
        const part = into.subarray(at - start, reached + offset - start);
        await chain.execute(this.#plan, at - offset, part);
        if (leave) this.#markOwn(chain, start - offset, unit, leave);
        return reached + offset;
      });
    }
    into.fill(0, end - start);
  }

  /** Begins to fetch guest bytes `[start, end)`, where reading takes long. */
  async prefetch(start: number, end: number): Promise<void> {
    const last = Math.min(end, this.size);
    for (let at = start; at < last; ) {
      const { image, offset, next } = this.#at(at);
      const stop = Math.min(last, next);
      await image.prefetch(at - offset, stop - offset);
      at = stop;
    }
  }

  /**
   * Has a raw target, which reads as zeros so far, share what the files hold of a range, without
   * copying. Answers whether all of the range is there now; if not, it is to be written over.
   */
  async share(start: number, length: number, target: Storage): Promise<boolean> {
    const end = Math.min(start + length, this.size);
    let isShared = true;
    for (let at = start; at < end && isShared; ) {
      const { image, offset, next } = this.#at(at);
      const stop = Math.min(end, next);
      at = await image.withChain(async (chain) => {
        const reached = await chain.map(at - offset, stop - offset, this.#plan);
        for (let i = 0; i < this.#plan.count && isShared; i++)
          isShared = await this.#shareRun(i, chain.layers, offset, target);
        return reached + offset;
      });
    }
    return isShared;
  }

  /**
   * Guest offsets of the chunks of `chunkBytes` that are wanted, in order. Reads no guest data.
   */
  async *chunks(chunkBytes: number, which: WantedChunks): AsyncGenerator<number> {
    let next = 0;
    if (which === 'all') for (; next < this.size; next += chunkBytes) yield next;
    const plan = new Plan();
    for (let at = next; at < this.size; ) {
      const { image, offset, next: imageEnd } = this.#at(at);
      const chain = await image.chain();
      const stop = Math.min(imageEnd, this.size, at + WINDOW_BYTES) - offset;
      const reached = await image.map(at - offset, stop, plan);
      for (let i = 0; i < plan.count; i++) {
        const kind = plan.kind[i]!;
        const wanted =
          kind === RUN_DATA ||
          kind === RUN_COMPRESSED ||
          (which === 'overlay' && !leftToBacking(chain, plan, i));
        if (!wanted) continue;
        const from = plan.guest[i]! + offset;
        const first = Math.floor(from / chunkBytes) * chunkBytes;
        for (next = Math.max(next, first); next < from + plan.length[i]!; next += chunkBytes)
          yield next;
      }
      at = reached + offset;
    }
  }

  /**
   * Calls back for every run of the disk, in order: its bytes `[from, to)`, whether they must be read,
   * and whether the image leaves them to its backing file. Reads no guest data.
   */
  async eachRun(
    visit: (from: number, to: number, isData: boolean, isLeft: boolean) => void,
    step: () => void | Promise<void>,
  ): Promise<void> {
    const plan = new Plan();
    for (let at = 0; at < this.size; ) {
      await step();
      const { image, offset, next } = this.#at(at);
      const chain = await image.chain();
      const stop = Math.min(next, this.size, at + WINDOW_BYTES) - offset;
      const reached = await image.map(at - offset, stop, plan);
      for (let i = 0; i < plan.count; i++) {
        const kind = plan.kind[i]!;
        const from = plan.guest[i]! + offset;
        const isData = kind === RUN_DATA || kind === RUN_COMPRESSED;
        visit(from, from + plan.length[i]!, isData, leftToBacking(chain, plan, i));
      }
      at = reached + offset;
    }
  }

  /** False for what is no part of a file as it is, and where the target cannot. */
  async #shareRun(
    i: number,
    layers: readonly { readonly layer: { readonly dataStorage: Storage } }[],
    offset: number,
    target: Storage,
  ): Promise<boolean> {
    const { kind, layer, host, length, guest } = this.#plan;
    if (kind[i] === RUN_COMPRESSED) return false;
    if (kind[i] !== RUN_DATA) return true;
    const { dataStorage } = layers[layer[i]!]!.layer;
    return target.copyRange!(dataStorage, host[i]!, length[i]!, guest[i]! + offset);
  }

  #at(position: number): { image: Image; offset: number; next: number } {
    let index = 0;
    while (position >= this.#offsets[index + 1]!) index++;
    const image = this.images[index]!;
    return { image, offset: this.#offsets[index]!, next: this.#offsets[index + 1]! };
  }

  /** Clears the marks of units that the plan answers from the image itself. */
  #markOwn(chain: ChainLike, start: number, unit: number, leave: Uint8Array): void {
    const plan = this.#plan;
    for (let i = 0; i < plan.count; i++) {
      if (leftToBacking(chain, plan, i)) continue;
      const from = Math.floor((plan.guest[i]! - start) / unit);
      const to = Math.ceil((plan.guest[i]! + plan.length[i]! - start) / unit);
      leave.fill(0, from, to);
    }
  }
}

function requireRange({ offset, length }: DiskRange): void {
  if ([offset, length].every((value) => Number.isSafeInteger(value) && value >= 0)) return;
  const text = `range of ${length} bytes at offset ${offset}: both must be whole numbers of bytes`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { guestOffset: offset });
}

type ChainLike = { layers: readonly { layer: { virtualSize: number } }[] };

/** Whether run `i` was answered below the image itself, where its backing file reaches. */
function leftToBacking(chain: ChainLike, plan: Plan, i: number): boolean {
  if (chain.layers.length === 1) return false;
  if (plan.layer[i]! > 0) return true;
  return isUnallocated(plan.kind[i]!) && plan.guest[i]! < chain.layers[1]!.layer.virtualSize;
}
