import type { Codec } from '../codecs/codec.ts';
import { hex, Qcow2Error } from '../errors.ts';
import { RUN_COMPRESSED, RUN_DATA, RUN_INVALID } from '../kernel/abi.ts';
import type { Arena, Region } from '../kernel/arena.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Layer } from './layer.ts';
import type { Plan } from './plan.ts';
import { requireReadToEnd } from './whole-read.ts';

/** A layer and the codec of its compressed clusters. */
export interface ReadableLayer {
  layer: Layer;
  codec?: Codec;
}

/** Neighbouring streams closer than this are fetched with one read. */
const GAP_BYTES = 65536;
/** Host bytes fetched at once for compressed clusters, unless one stream needs more. */
const STAGING_BYTES = 1 << 20;

/**
 * Executes a plan: large ordered reads straight into the caller's buffer, decompression in place,
 * zeros elsewhere. One reader serves one call at a time.
 */
export class Reader {
  readonly #layers: readonly ReadableLayer[];
  readonly #arena: Arena;
  /** Host bytes of compressed streams: `[#from, #to)` of layer `#staged`, where the file has them. */
  #staging: Region | undefined;
  #staged = -1;
  #from = 0;
  #to = 0;
  /** Bytes of the window that the file has. */
  #filled = 0;
  /** The cluster decoded last for a request that wanted a part of one. */
  #scratch: Region | undefined;
  #scratchLayer = -1;
  #scratchHost = -1;

  constructor(layers: readonly ReadableLayer[], kernel: Kernel) {
    this.#layers = layers;
    this.#arena = kernel.arena;
    const largest = Math.max(0, ...layers.filter((l) => l.codec).map((l) => l.layer.clusterSize));
    if (largest === 0) return;
    // A descriptor can claim two clusters' worth of sectors (section 8).
    this.#staging = this.#arena.allocate(Math.max(STAGING_BYTES, 2 * largest));
    this.#scratch = this.#arena.allocate(largest);
  }

  /**
   * Fills `into`, whose first byte is guest byte `base`, with all runs of the plan; runs are in
   * ascending order and cover the buffer. With the buffer in kernel memory, 320 bytes behind it are
   * undefined afterwards.
   * @throws Qcow2Error BAD_DATA, TRUNCATED, IO
   */
  async execute(plan: Plan, base: number, into: Uint8Array): Promise<void> {
    for (let i = 0; i < plan.count; i++) {
      const at = plan.guest[i]! - base;
      const part = into.subarray(at, at + plan.length[i]!);
      const kind = plan.kind[i]!;
      if (kind === RUN_DATA) {
        const done = this.#readData(plan, i, part);
        if (done !== undefined) await done;
      } else if (kind === RUN_COMPRESSED) {
        if (!this.#isStaged(plan, i)) await this.#stage(plan, i);
        this.#decompress(plan, i, part);
      } else {
        if (kind === RUN_INVALID) throw new Error('a plan for looking at an image was to be read');
        part.fill(0);
      }
    }
  }

  /** Gives its memory back; it is not used any more. */
  release(): void {
    for (const region of [this.#staging, this.#scratch]) if (region) this.#arena.release(region);
  }

  /** Forgets bytes of files it holds: one has changed. */
  forget(): void {
    this.#staged = -1;
    this.#scratchHost = -1;
  }

  #readData(plan: Plan, i: number, part: Uint8Array): void | Promise<void> {
    const { layer } = this.#layers[plan.layer[i]!]!;
    const host = plan.host[i]!;
    const finish = (n: number): void => {
      if (n === part.length) return;
      requireReadToEnd(layer.dataStorage, host + n, host + part.length);
      this.#requireTail(layer, host + n, part.length - n);
      part.fill(0, n);
    };
    const read = layer.dataStorage.read(host, part);
    return typeof read === 'number' ? finish(read) : read.then(finish);
  }

  /** Up to a cluster may be missing at a file's end, and reads as zeros; more is truncation. */
  #requireTail(layer: Layer, end: number, missing: number): void {
    if (missing < layer.clusterSize) return;
    const { name } = layer.dataStorage;
    const text = `'${name}' ends at offset ${hex(end)}, ${missing} bytes before the data it holds; the file is truncated`;
    throw new Qcow2Error('TRUNCATED', text, { structure: 'data cluster', offset: end });
  }

  #isStaged(plan: Plan, i: number): boolean {
    const host = plan.host[i]!;
    const inWindow = host >= this.#from && host + plan.aux[i]! <= this.#to;
    return plan.layer[i] === this.#staged && inWindow;
  }

  /** Reads the host range of run `i` and of the compressed runs near it that come next. */
  async #stage(plan: Plan, i: number): Promise<void> {
    const staging = this.#staging!;
    const index = plan.layer[i]!;
    let from = plan.host[i]!;
    let to = from + plan.aux[i]!;
    for (let next = i + 1; next < plan.count; next++) {
      if (plan.kind[next] !== RUN_COMPRESSED || plan.layer[next] !== index) continue;
      const host = plan.host[next]!;
      const low = Math.min(from, host);
      const high = Math.max(to, host + plan.aux[next]!);
      if (high - low > staging.length || host > to + GAP_BYTES || low < from - GAP_BYTES) break;
      from = low;
      to = high;
    }
    this.#staged = -1;
    const view = staging.bytes.subarray(0, to - from);
    const { dataStorage } = this.#layers[index]!.layer;
    const n = await dataStorage.read(from, view);
    requireReadToEnd(dataStorage, from + n, to);
    // The last sector of the last stream may be cut off; the codec finds out if it mattered. It must
    // not see zeros instead, which can decode to something.
    this.#filled = n;
    this.#staged = index;
    this.#from = from;
    this.#to = to;
  }

  #decompress(plan: Plan, i: number, part: Uint8Array): void {
    const { layer, codec } = this.#layers[plan.layer[i]!]!;
    const host = plan.host[i]!;
    const within = plan.guest[i]! % layer.clusterSize;
    const start = host - this.#from;
    const end = Math.max(start, Math.min(start + plan.aux[i]!, this.#filled));
    const input = this.#staging!.bytes.subarray(start, end);
    try {
      if (part.length === layer.clusterSize) {
        codec!.decompress(input, part);
        return;
      }
      const cluster = this.#scratch!.bytes.subarray(0, layer.clusterSize);
      if (this.#scratchHost !== host || this.#scratchLayer !== plan.layer[i]) {
        this.#scratchHost = -1;
        codec!.decompress(input, cluster);
        this.#scratchHost = host;
        this.#scratchLayer = plan.layer[i]!;
      }
      part.set(cluster.subarray(within, within + part.length));
    } catch (cause) {
      throw inContext(cause, layer, plan.guest[i]! - within, host);
    }
  }
}

/** Says where the stream is that a codec could not decode. */
function inContext(cause: unknown, layer: Layer, guestOffset: number, offset: number): unknown {
  if (!(cause instanceof Qcow2Error)) return cause;
  const where = `compressed cluster at offset ${hex(offset)} of '${layer.storage.name}'`;
  const message = `${where} (guest offset ${hex(guestOffset)}): ${cause.message}`;
  const structure = 'compressed cluster';
  return new Qcow2Error(cause.code, message, { structure, offset, guestOffset }, { cause });
}
