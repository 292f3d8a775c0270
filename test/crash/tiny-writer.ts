import { viewOf } from '../../src/format/fields.ts';
import { encodeL1Entry } from '../../src/format/l1-entry.ts';
import { encodeL2Normal, L2_OFFSET_MASK } from '../../src/format/l2-entry.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { buildImage, type SmallImage } from '../hostile/builder.ts';
import type { GuestDisk } from './workload.ts';

/** A mistake a writer can make. */
export type Mistake =
  /** The L2 entry goes out before the counter, and nothing orders them. */
  | 'entry before counter'
  /** A counter is lowered before the entry that named the cluster is gone from the disk. */
  | 'free before entry'
  /** A discarded cluster gets other data before the entry that named it is gone from the disk. */
  | 'reuse before free'
  /** The L1 entry goes out before its L2 table. */
  | 'L1 before L2'
  /** The L2 entry goes out before the data. */
  | 'entry before data'
  /** A flush of the guest does not reach the disk. */
  | 'flush that does nothing';

const CLUSTER = 512;
const ENTRIES = CLUSTER / 8;

/** In what order a new cluster is written, by the mistake made. */
function orderOf(mistake: Mistake | undefined): ('count' | 'data' | 'flush' | 'link')[] {
  if (mistake === 'entry before counter') return ['data', 'flush', 'link', 'count'];
  if (mistake === 'entry before data') return ['count', 'flush', 'link', 'data'];
  return ['count', 'data', 'flush', 'link'];
}

/** The image a tiny writer works on: four L2 tables, one of them there; free clusters hold rubbish. */
export function tinyBase(): SmallImage {
  const image = buildImage({ clusterBits: 9, size: 4 * ENTRIES * CLUSTER, clusters: 'HHHH' });
  const rubbish = new Uint8Array(256 * CLUSTER - image.size).fill(0xee);
  return image.put(image.size, rubbish);
}

/**
 * A writer of 512-byte clusters that is right (format section 17), or wrong in one way: what the crash
 * tests must be able to tell apart.
 */
export class TinyWriter implements GuestDisk {
  readonly #storage: Storage;
  readonly #at: SmallImage['at'];
  readonly #mistake: Mistake | undefined;
  /** The file as the writer means it to be. */
  readonly #bytes: Uint8Array;
  /** Clusters to be used again, still counted. */
  readonly #atHand: number[] = [];

  constructor(storage: Storage, base: SmallImage, mistake?: Mistake) {
    this.#storage = storage;
    this.#at = base.at;
    this.#mistake = mistake;
    this.#bytes = base.bytes.slice();
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += CLUSTER)
      await this.#writeCluster((offset + at) / CLUSTER, bytes.subarray(at, at + CLUSTER));
  }

  async discard(offset: number, length: number): Promise<void> {
    for (let cluster = offset / CLUSTER; cluster < (offset + length) / CLUSTER; cluster++) {
      const entry = this.#entryOf(cluster);
      const host = entry === 0 ? 0 : this.#pointer(entry);
      if (host === 0) continue;
      await this.#put64(entry, 0n);
      if (this.#mistake === 'reuse before free') {
        this.#atHand.push(host / CLUSTER);
        continue;
      }
      if (this.#mistake !== 'free before entry') await this.#storage.flush!();
      await this.#count(host / CLUSTER, 0);
    }
  }

  async flush(): Promise<void> {
    if (this.#mistake !== 'flush that does nothing') await this.#storage.flush!();
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let at = 0; at < into.length; at += CLUSTER) {
      const entry = this.#entryOf((offset + at) / CLUSTER);
      const host = entry === 0 ? 0 : this.#pointer(entry);
      const found = this.#bytes.subarray(host, host + CLUSTER);
      into.subarray(at, at + CLUSTER).set(host === 0 ? new Uint8Array(CLUSTER) : found);
    }
  }

  async close(): Promise<void> {}

  async #writeCluster(cluster: number, bytes: Uint8Array): Promise<void> {
    const entry = this.#entryOf(cluster) || (await this.#newTable(cluster));
    const host = this.#pointer(entry);
    if (host !== 0) return this.#put(host, bytes);
    const taken = this.#take();
    const steps = {
      count: () => this.#count(taken, 1),
      data: () => this.#put(taken * CLUSTER, bytes),
      flush: async () => this.#storage.flush!(),
      link: () => this.#put64(entry, encodeL2Normal(taken * CLUSTER, true)),
    };
    for (const step of orderOf(this.#mistake)) await steps[step]();
  }

  /** Makes the L2 table for a cluster; returns the offset of the cluster's entry. */
  async #newTable(cluster: number): Promise<number> {
    const taken = this.#take();
    const l1Entry = this.#at.l1 + Math.floor(cluster / ENTRIES) * 8;
    const link = (): Promise<void> => this.#put64(l1Entry, encodeL1Entry(taken * CLUSTER, true));
    await this.#count(taken, 1);
    await this.#storage.flush!();
    if (this.#mistake === 'L1 before L2') await link();
    await this.#put(taken * CLUSTER, new Uint8Array(CLUSTER));
    if (this.#mistake !== 'L1 before L2') {
      await this.#storage.flush!();
      await link();
    }
    return this.#entryOf(cluster);
  }

  /** Host offset of the L2 entry of a cluster; 0 without a table. */
  #entryOf(cluster: number): number {
    const table = this.#pointer(this.#at.l1 + Math.floor(cluster / ENTRIES) * 8);
    return table === 0 ? 0 : table + (cluster % ENTRIES) * 8;
  }

  #pointer(at: number): number {
    return Number(viewOf(this.#bytes).getBigUint64(at) & L2_OFFSET_MASK);
  }

  /** A cluster at hand, or the first free one. */
  #take(): number {
    const atHand = this.#atHand.pop();
    if (atHand !== undefined) return atHand;
    const view = viewOf(this.#bytes);
    for (let cluster = 0; cluster < CLUSTER / 2; cluster++)
      if (view.getUint16(this.#at.refcountBlock + cluster * 2) === 0) return cluster;
    throw new Error('the tiny image is full');
  }

  #count(cluster: number, value: number): Promise<void> {
    return this.#put(this.#at.refcountBlock + cluster * 2, Uint8Array.of(value >> 8, value));
  }

  #put64(at: number, word: bigint): Promise<void> {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, word);
    return this.#put(at, bytes);
  }

  async #put(at: number, bytes: Uint8Array): Promise<void> {
    await this.#storage.write!(at, bytes);
    this.#bytes.set(bytes, at);
  }
}
