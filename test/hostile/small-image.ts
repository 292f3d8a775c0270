import { encodeCompressed } from '../../src/format/compressed-descriptor.ts';
import { viewOf } from '../../src/format/fields.ts';
import type { Geometry } from '../../src/format/geometry.ts';

/** Where the parts of a built image lie, in bytes. 0: it has none. */
export interface Places {
  refcountTable: number;
  refcountBlock: number;
  l1: number;
  l2: number;
  /** Host offset of each guest cluster that has one, and of each stream. */
  data: number[];
  snapshots: number;
  snapshotL1: number;
  bitmapDirectory: number;
  bitmapTables: number[];
  luks: number;
}

/** A built image, to be damaged. Offsets are bytes of the file; the `set` calls return the image. */
export class SmallImage {
  bytes: Uint8Array;
  readonly geometry: Geometry;
  readonly at: Places;
  /** What a guest reads before anything is broken (without a backing file). */
  readonly guest: Uint8Array;
  /** The bytes of its external data file. */
  readonly external: Uint8Array | undefined;

  constructor(
    bytes: Uint8Array,
    geometry: Geometry,
    at: Places,
    guest: Uint8Array,
    external: Uint8Array | undefined,
  ) {
    this.bytes = bytes;
    this.geometry = geometry;
    this.at = at;
    this.guest = guest;
    this.external = external;
  }

  get size(): number {
    return this.bytes.length;
  }

  u8(at: number, value: number): this {
    return this.put(at, Uint8Array.of(value));
  }

  u16(at: number, value: number): this {
    viewOf(this.bytes).setUint16(at, value);
    return this;
  }

  u32(at: number, value: number): this {
    viewOf(this.bytes).setUint32(at, value);
    return this;
  }

  u64(at: number, value: number | bigint): this {
    viewOf(this.bytes).setBigUint64(at, BigInt(value));
    return this;
  }

  get64(at: number): bigint {
    return viewOf(this.bytes).getBigUint64(at);
  }

  /** Writes bytes, growing the file if need be. */
  put(at: number, bytes: ArrayLike<number>): this {
    if (at + bytes.length > this.size) this.resize(at + bytes.length);
    this.bytes.set(bytes, at);
    return this;
  }

  /** Cuts or zero-extends the file. */
  resize(size: number): this {
    const grown = new Uint8Array(size);
    grown.set(this.bytes.subarray(0, size));
    this.bytes = grown;
    return this;
  }

  /** Byte offset of the L2 entry of a guest cluster. */
  l2Entry(cluster: number): number {
    return this.at.l2 + cluster * this.geometry.l2EntrySize;
  }

  /** Sets the L2 entry of a guest cluster. */
  l2(cluster: number, word: bigint, bitmap?: bigint): this {
    this.u64(this.l2Entry(cluster), word);
    return bitmap === undefined ? this : this.u64(this.l2Entry(cluster) + 8, bitmap);
  }

  /** Sets the L2 entry of a guest cluster to a stream of its own at the end of the file. */
  stream(cluster: number, bytes: ArrayLike<number>, claimed = bytes.length): this {
    const at = this.size;
    this.put(at, bytes);
    return this.l2(cluster, encodeCompressed(at, claimed, this.geometry));
  }

  /** Offset of the header extension with a type, at its head. */
  extension(type: number): number {
    const view = viewOf(this.bytes);
    let at = view.getUint32(4) === 2 ? 72 : view.getUint32(100);
    while (view.getUint32(at) !== type) {
      if (view.getUint32(at) === 0) throw new Error(`no extension ${type.toString(16)}`);
      at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
    }
    return at;
  }
}
