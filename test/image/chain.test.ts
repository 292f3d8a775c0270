import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Image } from '../../src/image/image.ts';
import { Plan } from '../../src/image/plan.ts';
import * as abi from '../../src/kernel/abi.ts';
import { createKernel, type KernelBackend } from '../../src/kernel/kernel.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { makeContent } from '../support/data.ts';
import { anyCraft, type Craft, type Crafted, craftImage } from './crafted-image.ts';
import { type NaiveLayer, naiveDisk, naivePlace } from './naive-disk.ts';

/** A file whose reads (and maps) settle late, and not in the order they were made. */
class LateStorage implements Storage {
  readonly #memory: MemoryStorage;
  readonly #holes: boolean;
  readonly name: string;
  #turn = 0;

  constructor(bytes: Uint8Array, name: string, holes: boolean) {
    this.#memory = new MemoryStorage(bytes);
    this.#holes = holes;
    this.name = name;
  }

  get size(): number {
    return this.#memory.size;
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    await this.#wait();
    return this.#memory.read(offset, into);
  }

  /** Two of three pieces are told apart, and never more than three pieces at once. */
  async extents(offset: number, length: number) {
    await this.#wait();
    if (!this.#holes) return [{ offset, length, data: true }];
    const piece = Math.max(1, Math.floor(length / 4));
    return [0, 1, 2].map((i) => ({ offset: offset + i * piece, length: piece, data: true }));
  }

  close(): void {}

  async #wait(): Promise<void> {
    this.#turn = (this.#turn * 5 + 3) % 7;
    const turns = this.#turn;
    for (let i = 0; i < turns; i++) await null;
    if (turns === 6) await new Promise((resolve) => setImmediate(resolve));
  }
}

interface ChainCraft {
  crafts: Craft[];
  /** Bytes of a raw file below, any length. */
  raw: number | undefined;
  snapshot: boolean;
  backend: KernelBackend;
  late: boolean;
}

const anyChain: fc.Arbitrary<ChainCraft> = fc.record({
  crafts: fc.array(anyCraft, { minLength: 1, maxLength: 4 }),
  raw: fc.option(fc.integer({ min: 0, max: 300_000 }), { nil: undefined }),
  snapshot: fc.boolean(),
  backend: fc.constantFrom<KernelBackend>('wasm-simd', 'wasm', 'js'),
  late: fc.boolean(),
});

/** The files of a chain and an image opened over them, by names that follow the place in it. */
async function openCrafted({ crafts, raw, snapshot, backend, late }: ChainCraft) {
  const layers: NaiveLayer[] = crafts.map((craft, depth) => {
    const isLast = depth === crafts.length - 1;
    const backing = isLast ? (raw === undefined ? undefined : 'raw') : 'qcow2';
    return craftImage({ ...craft, backing });
  });
  if (raw !== undefined) layers.push({ raw: makeContent('random', raw, raw) });
  const file = (bytes: Uint8Array, name: string): Storage =>
    late
      ? new LateStorage(bytes, name, raw !== undefined && raw % 2 === 0)
      : new MemoryStorage(bytes, name);
  const bytesOf = (layer: NaiveLayer) => ('raw' in layer ? layer.raw : layer.bytes);
  const top = layers[0] as Crafted & { snapshot?: number };
  const options = snapshot && crafts[0]!.snapshots > 0 ? { snapshot: '1' } : {};
  if ('snapshot' in options) top.snapshot = 0;
  const image = await Image.open(file(bytesOf(top), '0'), {
    format: 'qcow2',
    kernel: createKernel({ backend }),
    resolver: ({ role, namedBy }) => {
      const depth = Number(namedBy);
      const layer = layers[depth] as Crafted;
      if (role === 'data file') return file(layer.data!, `data of ${depth}`);
      return file(bytesOf(layers[depth + 1]!), `${depth + 1}`);
    },
    ...options,
  });
  return { image, layers };
}

const KINDS: Readonly<Record<string, number>> = {
  normal: abi.RUN_DATA,
  compressed: abi.RUN_COMPRESSED,
  'zero-plain': abi.RUN_ZERO_PLAIN,
  'zero-allocated': abi.RUN_ZERO_ALLOCATED,
  unallocated: abi.RUN_UNALLOCATED,
  'unallocated-in-cluster': abi.RUN_UNALLOCATED_SUBCLUSTER,
};

/** What is wrong with a plan for `[start, end)`, by the naive mapping of its first bad sector. */
function fault(plan: Plan, start: number, end: number, layers: readonly NaiveLayer[]): unknown {
  let at = start;
  for (let i = 0; i < plan.count; i++) {
    if (plan.guest[i] !== at) return { at, guest: plan.guest[i] };
    for (let within = 0; within < plan.length[i]!; within += 512) {
      const wanted = naivePlace(layers, at + within);
      const { state, depth, host } = wanted;
      const place = plan.kind[i] === abi.RUN_COMPRESSED ? plan.host[i]! : plan.host[i]! + within;
      const same = plan.kind[i] === KINDS[state] && plan.layer[i] === depth;
      if (!same || (host !== undefined && place !== host))
        return { at: at + within, wanted, kind: plan.kind[i], depth: plan.layer[i], place };
    }
    at += plan.length[i]!;
  }
  return at === end ? undefined : { at, end };
}

describe('a chain of crafted images', () => {
  it('maps as decoding entry by entry does', async () => {
    await fc.assert(
      fc.asyncProperty(anyChain, fc.nat(), fc.nat(), async (craft, a, b) => {
        const { image, layers } = await openCrafted(craft);
        const sectors = image.virtualSize / 512;
        const [start, end] = [a % (sectors + 1), b % (sectors + 1)].sort((x, y) => x - y) as [
          number,
          number,
        ];
        const plan = new Plan();
        for (let at = start * 512; at < end * 512; ) {
          const reached = await image.map(at, end * 512, plan);
          expect(reached).toBeGreaterThan(at);
          expect(fault(plan, at, reached, layers)).toBeUndefined();
          at = reached;
        }
      }),
      { numRuns: 40 },
    );
  });

  it('reads as reading sector by sector does, at any offset and from many callers at once', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyChain,
        fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 8 }),
        async (craft, ranges) => {
          const { image, layers } = await openCrafted(craft);
          const disk = naiveDisk(layers);
          expect(image.virtualSize).toBe(disk.length);
          const reads = [[0, disk.length], ...ranges].map(async ([a, b]) => {
            const offset = a! % (disk.length + 1);
            const into = new Uint8Array(b! % (disk.length - offset + 1)).fill(0xee);
            await image.read(offset, into);
            return Buffer.compare(into, disk.subarray(offset, offset + into.length));
          });
          const closing = image.close();
          expect(await Promise.all(reads)).toEqual(reads.map(() => 0));
          await closing;
        },
      ),
      { numRuns: 50 },
    );
  });
});
