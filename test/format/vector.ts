import { readFileSync } from 'node:fs';
import { geometryOf } from '../../src/format/geometry.ts';
import type { L2Context } from '../../src/format/l2-entry.ts';

/** One recorded structure of an image made by qemu-img. */
export interface Vector {
  readonly id: string;
  readonly kind: string;
  readonly context: {
    readonly cluster_bits: number;
    readonly version: 2 | 3;
    readonly extended_l2?: boolean;
    readonly data_file?: boolean;
    readonly refcount_order?: number;
    readonly guest_offset?: string;
    readonly row?: number;
  };
  readonly file_offset: string | null;
  readonly hex: string;
  // biome-ignore lint/suspicious/noExplicitAny: recorded JSON, a different shape for every kind
  readonly decoded: any;
}

const url = new URL('./vectors.json', import.meta.url);

/** All vectors of `vectors.json`. */
export const VECTORS: readonly Vector[] = JSON.parse(readFileSync(url, 'utf8')).vectors;

/** A vector that must exist. */
export function vectorById(id: string): Vector {
  const vector = VECTORS.find((v) => v.id === id);
  if (vector === undefined) throw new Error(`no vector ${id}`);
  return vector;
}

/** Hexadecimal to bytes. */
export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** Bytes to hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The vector's 64-bit word. */
export function wordOf(vector: Vector): bigint {
  return BigInt(`0x${vector.hex}`);
}

/** What the entry of a vector is decoded with. */
export function contextOf(vector: Vector): L2Context {
  const { cluster_bits, version, extended_l2, data_file, refcount_order, guest_offset } =
    vector.context;
  const geometry = geometryOf({
    clusterBits: cluster_bits,
    refcountOrder: refcount_order ?? 4,
    incompatibleFeatures: extended_l2 ? 16n : 0n,
  });
  return {
    geometry,
    version,
    dataFile: data_file === true,
    ...(guest_offset === undefined ? {} : { guestOffset: Number(guest_offset) }),
  };
}
