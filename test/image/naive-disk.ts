import { inflateRawSync } from 'node:zlib';
import { decodeL1Entry } from '../../src/format/l1-entry.ts';
import {
  decodeExtendedL2Entry,
  decodeL2Entry,
  type SubclusterState,
  subclusterState,
} from '../../src/format/l2-entry.ts';
import { parseSnapshotTable } from '../../src/format/snapshot-table.ts';
import type { Crafted } from './crafted-image.ts';

/** One file of a chain: a crafted image (as of a snapshot), or a raw file. */
export type NaiveLayer = (Crafted & { snapshot?: number }) | { raw: Uint8Array };

/** Where one sector of the disk is: a state, the layer that answers, and its place. */
export interface NaivePlace {
  state: SubclusterState | 'compressed';
  depth: number;
  /** Host offset; undefined without a place. */
  host: number | undefined;
}

function word(bytes: Uint8Array, at: number): bigint {
  let value = 0n;
  for (let i = 0; i < 8; i++) value = (value << 8n) | BigInt(bytes[at + i] ?? 0);
  return value;
}

function sizeOf(layer: NaiveLayer): number {
  return 'raw' in layer ? Math.ceil(layer.raw.length / 512) * 512 : layer.header.size;
}

function l1Of({ bytes, header, snapshot }: Exclude<NaiveLayer, { raw: Uint8Array }>): number {
  if (snapshot === undefined) return header.l1TableOffset;
  const table = parseSnapshotTable(bytes.subarray(header.snapshotsOffset), header.nbSnapshots);
  return table[snapshot]!.l1TableOffset;
}

/** The state of guest byte `guest` in one file alone, decoded entry by entry. */
function placeIn(layer: NaiveLayer, guest: number, depth: number): NaivePlace {
  if ('raw' in layer) {
    const state = guest < layer.raw.length ? 'normal' : 'zero-allocated';
    return { state, depth, host: guest };
  }
  const { bytes, geometry, header, data } = layer;
  const { clusterSize, l2Coverage, l2EntrySize, l2Entries, subclusterSize } = geometry;
  const l1 = decodeL1Entry(word(bytes, l1Of(layer) + Math.floor(guest / l2Coverage) * 8), geometry);
  if (l1.l2Offset === 0) return { state: 'unallocated', depth, host: undefined };
  const at = l1.l2Offset + (Math.floor(guest / clusterSize) % l2Entries) * l2EntrySize;
  const version = header.version as 2 | 3;
  const context = { geometry, version, dataFile: data !== undefined };
  const entry = geometry.extendedL2
    ? decodeExtendedL2Entry(word(bytes, at), word(bytes, at + 8), context)
    : decodeL2Entry(word(bytes, at), context);
  const within = guest % clusterSize;
  if (entry.kind === 'compressed') return { state: 'compressed', depth, host: entry.hostOffset };
  const host = 'hostOffset' in entry ? entry.hostOffset + within : undefined;
  if ('bitmap' in entry)
    return { state: subclusterState(entry, Math.floor(within / subclusterSize)), depth, host };
  return { state: entry.kind, depth, host };
}

/** The file of the chain that answers for guest byte `guest`, and how. */
export function naivePlace(chain: readonly NaiveLayer[], guest: number): NaivePlace {
  for (let depth = 0; ; depth++) {
    const place = placeIn(chain[depth]!, guest, depth);
    const asksBelow = place.state === 'unallocated' || place.state === 'unallocated-in-cluster';
    const below = chain[depth + 1];
    if (!asksBelow || below === undefined || guest >= sizeOf(below)) return place;
  }
}

/** The 512 bytes of the sector at `guest`. */
function naiveSector(
  chain: readonly NaiveLayer[],
  guest: number,
  inflated: Map<string, Uint8Array>,
) {
  const { state, depth, host } = naivePlace(chain, guest);
  const sector = new Uint8Array(512);
  const layer = chain[depth]!;
  if (state === 'normal') {
    const file = 'raw' in layer ? layer.raw : (layer.data ?? layer.bytes);
    sector.set(file.subarray(host!, host! + 512));
  } else if (state === 'compressed' && !('raw' in layer)) {
    const key = `${depth}:${host}`;
    const plain = inflated.get(key) ?? inflateRawSync(layer.bytes.subarray(host!));
    inflated.set(key, plain);
    const within = guest % layer.geometry.clusterSize;
    sector.set(plain.subarray(within, within + 512));
  }
  return sector;
}

/** The whole disk, sector by sector. */
export function naiveDisk(chain: readonly NaiveLayer[]): Uint8Array {
  const disk = new Uint8Array(sizeOf(chain[0]!));
  const inflated = new Map<string, Uint8Array>();
  for (let at = 0; at < disk.length; at += 512) disk.set(naiveSector(chain, at, inflated), at);
  return disk;
}
