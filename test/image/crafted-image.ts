import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { encodeCompressed } from '../../src/format/compressed-descriptor.ts';
import { INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_EXTENDED_L2 } from '../../src/format/feature-bits.ts';
import { nameOf } from '../../src/format/fields.ts';
import { type Geometry, geometryOf, l1Needed } from '../../src/format/geometry.ts';
import { HEADER_V2_BYTES, HEADER_V3_BYTES, type Header } from '../../src/format/header.ts';
import { buildHeaderCluster } from '../../src/format/header-cluster.ts';
import {
  backingFormatExtension,
  dataFileNameExtension,
} from '../../src/format/header-extensions.ts';
import { encodeL1Entry } from '../../src/format/l1-entry.ts';
import { encodeL2Normal, encodeSubclusterBitmap, L2_ZERO } from '../../src/format/l2-entry.ts';
import { encodeSnapshotTable } from '../../src/format/snapshot-table.ts';
import { makeContent } from '../support/data.ts';

/** What a crafted image is like; its tables follow from `seed`. */
export interface Craft {
  clusterBits: number;
  extendedL2: boolean;
  version: 2 | 3;
  /** Bytes of the disk, a multiple of 512. */
  size: number;
  seed: number;
  dataFile: boolean;
  /** Internal snapshots beside the active disk, each with tables of its own. */
  snapshots: number;
  backing: 'qcow2' | 'raw' | undefined;
}

/** Clusters of a crafted disk at most, so that a test is quick. */
const MOST_CLUSTERS = 40;

/** Any image there can be in a chain; `backing` is for the chain to say. */
export const anyCraft: fc.Arbitrary<Craft> = fc
  .record({
    clusterBits: fc.integer({ min: 9, max: 16 }),
    extendedL2: fc.boolean(),
    version: fc.constantFrom(2 as const, 3 as const, 3 as const),
    clusters: fc.integer({ min: 0, max: MOST_CLUSTERS }),
    tail: fc.nat(127),
    seed: fc.nat(),
    dataFile: fc.integer({ min: 0, max: 4 }),
    snapshots: fc.constantFrom(0, 0, 0, 1, 2),
  })
  .map(({ clusters, tail, ...craft }) => {
    const clusterBits = craft.extendedL2 ? Math.max(14, craft.clusterBits) : craft.clusterBits;
    const clusterSize = 2 ** clusterBits;
    return {
      ...craft,
      clusterBits,
      version: craft.extendedL2 || craft.dataFile === 0 ? 3 : craft.version,
      size: clusters * clusterSize + ((tail * 512) % clusterSize),
      dataFile: craft.dataFile === 0,
      backing: undefined,
    };
  });

/** A crafted file, and its external data file if it has one. */
export interface Crafted {
  bytes: Uint8Array;
  data: Uint8Array | undefined;
  geometry: Geometry;
  header: Header;
}

/** Puts a file together from clusters that are handed out in a random order. */
class Crafter {
  readonly #craft: Craft;
  readonly #random: () => number;
  readonly geometry: Geometry;
  readonly data: Uint8Array | undefined;
  bytes = new Uint8Array(0);
  /** Where the next compressed stream may start, and where its clusters end; 0 in new ones. */
  #streamAt = 0;
  #streamEnd = 0;

  constructor(craft: Craft) {
    this.#craft = craft;
    let state = (craft.seed ^ 0x5bd1e995) | 1;
    this.#random = () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) / 2 ** 32;
    };
    this.geometry = geometryOf({
      clusterBits: craft.clusterBits,
      refcountOrder: 4,
      incompatibleFeatures: craft.extendedL2 ? INCOMPATIBLE_EXTENDED_L2 : 0n,
    });
    this.data = craft.dataFile
      ? makeContent('random', Math.max(4, craft.size), craft.seed)
      : undefined;
    this.clusters(2); // Header and refcount table.
  }

  /** Host offset of `count` new clusters behind all others; sometimes one is left out before. */
  clusters(count: number): number {
    const gap = this.bytes.length > 0 && this.#random() < 0.2 ? 1 : 0;
    const at = this.bytes.length + gap * this.geometry.clusterSize;
    const grown = new Uint8Array(at + count * this.geometry.clusterSize);
    grown.set(this.bytes);
    this.bytes = grown;
    return at;
  }

  word(at: number, value: bigint): void {
    new DataView(this.bytes.buffer).setBigUint64(at, value);
  }

  /** An L1 table with its L2 tables and data; returns where it is. */
  l1Table(): { offset: number; entries: number } {
    const { clusterSize, l2Coverage, l2EntrySize } = this.geometry;
    const entries = l1Needed(this.#craft.size, this.geometry);
    if (entries === 0) return { offset: 0, entries };
    const offset = this.clusters(Math.ceil((entries * 8) / clusterSize));
    for (let i = 0; i < entries; i++) {
      if (this.#random() < 0.2) continue;
      const table = this.clusters(1);
      this.word(offset + i * 8, encodeL1Entry(table, this.#random() < 0.5));
      const left = this.#craft.size - i * l2Coverage;
      const count = Math.ceil(Math.min(left, l2Coverage) / clusterSize);
      for (let k = 0; k < count; k++)
        this.#entry(table + k * l2EntrySize, i * l2Coverage + k * clusterSize);
    }
    return { offset, entries };
  }

  #entry(at: number, guest: number): void {
    const { extendedL2, version, dataFile } = this.#craft;
    const dice = this.#random();
    if (dice < 0.25 && !extendedL2) return;
    if (dice < 0.4 && !extendedL2) {
      if (version === 3) this.word(at, L2_ZERO | (dice < 0.3 ? 0n : this.#normal(guest)));
    } else if (dice < 0.6 && !dataFile) this.word(at, this.#compressed(guest));
    else if (!extendedL2) this.word(at, this.#normal(guest));
    else {
      const allocated = dice < 0.85;
      const any = () => (this.#random() < 0.3 ? 0 : Math.floor(this.#random() * 2 ** 32));
      const alloc = allocated ? any() : 0;
      this.word(at, allocated ? this.#normal(guest) : 0n);
      this.word(at + 8, encodeSubclusterBitmap(alloc, any() & ~alloc));
    }
  }

  #normal(guest: number): bigint {
    if (this.data) return encodeL2Normal(guest, true);
    const { clusterSize } = this.geometry;
    const host = this.clusters(1);
    this.bytes.set(makeContent('random', clusterSize, this.#craft.seed + guest + 1), host);
    return encodeL2Normal(host, this.#random() < 0.5);
  }

  /** A stream right behind the last one, or in a cluster of its own. */
  #compressed(guest: number): bigint {
    const { clusterSize } = this.geometry;
    const plain = makeContent('text', clusterSize, this.#craft.seed + guest + 1);
    const repeated = plain.subarray(0, 100 + Math.floor(this.#random() * 300));
    for (let at = 0; at < clusterSize; at += repeated.length)
      plain.set(repeated.subarray(0, clusterSize - at), at);
    const stream = deflateRawSync(plain, { windowBits: 12 });
    if (this.#streamAt + stream.length > this.#streamEnd) {
      this.#streamAt = this.clusters(2) + Math.floor(this.#random() * 600);
      this.#streamEnd = this.bytes.length;
    }
    const at = this.#streamAt;
    this.bytes.set(stream, at);
    this.#streamAt = at + stream.length;
    return encodeCompressed(at, stream.length, this.geometry);
  }
}

/** Makes the image a craft tells of. A backing file is recorded as `below`, a data file as `data`. */
export function craftImage(craft: Craft): Crafted {
  const crafter = new Crafter(craft);
  const { geometry } = crafter;
  const active = crafter.l1Table();
  const snapshots = Array.from({ length: craft.snapshots }, (_, i) => {
    const l1 = crafter.l1Table();
    return {
      l1TableOffset: l1.offset,
      l1Size: l1.entries,
      id: nameOf(`${i + 1}`),
      name: nameOf(`snapshot ${i + 1}`),
      dateSec: 0,
      dateNsec: 0,
      vmClockNsec: 0n,
      vmStateSize32: 0,
      vmStateSize64: 0,
      diskSize: craft.size,
      icount: undefined,
      unknownExtra: new Uint8Array(0),
    };
  });
  const table = encodeSnapshotTable(snapshots);
  const tableAt =
    snapshots.length === 0 ? 0 : crafter.clusters(Math.ceil(table.length / geometry.clusterSize));
  if (snapshots.length > 0) crafter.bytes.set(table, tableAt);
  const header: Header = {
    version: craft.version,
    backingFileOffset: 0,
    backingFileSize: 0,
    clusterBits: craft.clusterBits,
    size: craft.size,
    cryptMethod: 0,
    l1Size: active.entries,
    l1TableOffset: active.offset,
    refcountTableOffset: geometry.clusterSize,
    refcountTableClusters: 1,
    nbSnapshots: craft.snapshots,
    snapshotsOffset: tableAt,
    incompatibleFeatures:
      (craft.dataFile ? INCOMPATIBLE_DATA_FILE : 0n) |
      (craft.extendedL2 ? INCOMPATIBLE_EXTENDED_L2 : 0n),
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    refcountOrder: 4,
    headerLength: craft.version === 2 ? HEADER_V2_BYTES : HEADER_V3_BYTES,
    compressionType: 0,
    unknownFields: new Uint8Array(0),
  };
  const extensions = [
    ...(craft.backing ? [backingFormatExtension(craft.backing)] : []),
    ...(craft.dataFile ? [dataFileNameExtension('data')] : []),
  ];
  const backingFileName = craft.backing ? nameOf('below') : undefined;
  crafter.bytes.set(
    buildHeaderCluster({ header, extensions, backingFileName }, geometry.clusterSize),
  );
  return { bytes: crafter.bytes, data: crafter.data, geometry, header };
}
