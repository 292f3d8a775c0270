// Builds qcow2 images cluster by cluster, for the states a conversion never leaves behind: overlays,
// internal snapshots, allocated zeros. Version 3, clusters of 64 KiB, up to 2 GiB of file.
import { closeSync, openSync, writeSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import {
  compressedClusters,
  decodeCompressedDescriptor,
  encodeCompressed,
  writeCompressed,
} from '../../build/modules/format/compressed-descriptor.js';
import { nameOf, viewOf } from '../../build/modules/format/fields.js';
import { geometryOf, l1Needed } from '../../build/modules/format/geometry.js';
import { HEADER_V3_BYTES } from '../../build/modules/format/header.js';
import { buildHeaderCluster } from '../../build/modules/format/header-cluster.js';
import { backingFormatExtension } from '../../build/modules/format/header-extensions.js';
import { writeL1 } from '../../build/modules/format/l1-entry.js';
import {
  writeL2Normal,
  writeL2ZeroAllocated,
  writeL2ZeroPlain,
} from '../../build/modules/format/l2-entry.js';
import { setRefcount, writeRefcountTableEntry } from '../../build/modules/format/refcount-entry.js';
import { encodeSnapshotTable, ICOUNT_OFF } from '../../build/modules/format/snapshot-table.js';

const SHAPE = { clusterBits: 16, refcountOrder: 4, incompatibleFeatures: 0n };
const geometry = geometryOf(SHAPE);
export const CLUSTER = geometry.clusterSize;

/** Clusters 0 to 2: header, refcount table, the one refcount block. */
const FIRST_FREE = 3;

/** @typedef {{ kind: 'data' | 'compressed' | 'zero' | 'zero-allocated', host: number, length: number }} Entry */

export class ImageBuilder {
  #file;
  #size;
  #backing;
  #next = FIRST_FREE;
  /** End of the last compressed stream; the next one follows it while its cluster is the last. */
  #streamEnd = 0;
  /** Entry per guest cluster; absent: unallocated. @type {(Entry | undefined)[]} */
  #entries = [];
  /** @type {{ id: string, name: string, entries: (Entry | undefined)[] }[]} */
  #snapshots = [];
  #refcounts = new Map();

  /** @param {string} [backing] name of a qcow2 backing file */
  constructor(path, size, backing) {
    this.#file = openSync(path, 'wx');
    this.#size = size;
    this.#backing = backing;
  }

  data(index, bytes) {
    this.#put(index, 'data', this.#store(bytes));
  }

  /** A cluster that deflate cannot shorten is stored as it is. */
  compressed(index, bytes) {
    const whole = Buffer.alloc(CLUSTER);
    whole.set(bytes);
    const stream = deflateRawSync(whole, { windowBits: 12 });
    if (stream.length >= CLUSTER) return this.data(index, bytes);
    const isOpen =
      this.#streamEnd % CLUSTER > 0 && Math.ceil(this.#streamEnd / CLUSTER) === this.#next;
    const host = isOpen ? this.#streamEnd : this.#next * CLUSTER;
    writeSync(this.#file, stream, 0, stream.length, host);
    this.#streamEnd = host + stream.length;
    this.#next = Math.ceil(this.#streamEnd / CLUSTER);
    this.#put(index, 'compressed', host, stream.length);
  }

  zero(index) {
    this.#put(index, 'zero', 0);
  }

  /** Reads as zeros, whatever its host cluster holds. */
  zeroAllocated(index, bytes) {
    this.#put(index, 'zero-allocated', this.#store(bytes));
  }

  /** Keeps the disk as it is now under a name. */
  snapshot(id, name) {
    this.#snapshots.push({ id, name, entries: [...this.#entries] });
  }

  finish() {
    const views = [...this.#snapshots.map(({ entries }) => entries), this.#entries];
    for (const entries of views) for (const entry of entries) this.#count(entry);
    const tables = views.map((entries) => this.#writeTables(entries));
    const snapshotsOffset = this.#writeSnapshots(tables);
    this.#writeRefcounts();
    this.#writeHeader(tables[tables.length - 1] ?? 0, snapshotsOffset);
    closeSync(this.#file);
  }

  #put(index, kind, host, length = CLUSTER) {
    this.#entries[index] = { kind, host, length };
  }

  /** Writes whole clusters at the end of the file and returns their offset. */
  #store(bytes) {
    const clusters = Math.ceil(bytes.length / CLUSTER);
    const whole = Buffer.alloc(clusters * CLUSTER);
    whole.set(bytes);
    const host = this.#next * CLUSTER;
    writeSync(this.#file, whole, 0, whole.length, host);
    this.#next += clusters;
    return host;
  }

  /** {@link #store} for metadata, which has a reference of its own. */
  #storeCounted(bytes) {
    const host = this.#store(bytes);
    this.#add(host / CLUSTER, this.#next - 1);
    return host;
  }

  #add(first, last) {
    for (let cluster = first; cluster <= last; cluster++)
      this.#refcounts.set(cluster, (this.#refcounts.get(cluster) ?? 0) + 1);
  }

  #count(entry) {
    if (entry === undefined || entry.kind === 'zero') return;
    const { first, last } =
      entry.kind === 'compressed'
        ? compressedClusters(
            decodeCompressedDescriptor(
              encodeCompressed(entry.host, entry.length, geometry),
              geometry,
            ),
            geometry,
          )
        : { first: entry.host / CLUSTER, last: entry.host / CLUSTER };
    this.#add(first, last);
  }

  /** Writes the L2 tables and the L1 table of a view of the disk; returns the L1 table's offset. */
  #writeTables(entries) {
    const l1 = Buffer.alloc(l1Needed(this.#size, geometry) * 8);
    for (let i = 0; i * 8 < l1.length; i++) {
      const part = entries.slice(i * geometry.l2Entries, (i + 1) * geometry.l2Entries);
      if (part.every((entry) => entry === undefined)) continue;
      const table = Buffer.alloc(CLUSTER);
      for (const [k, entry] of part.entries()) this.#encode(viewOf(table), k * 8, entry);
      writeL1(viewOf(l1), i * 8, this.#storeCounted(table), true);
    }
    return this.#storeCounted(l1);
  }

  #encode(view, at, entry) {
    if (entry === undefined) return;
    const { kind, host, length } = entry;
    const copied = this.#refcounts.get(host / CLUSTER) === 1;
    if (kind === 'data') writeL2Normal(view, at, host, copied);
    else if (kind === 'compressed') writeCompressed(view, at, host, length, geometry);
    else if (kind === 'zero') writeL2ZeroPlain(view, at);
    else writeL2ZeroAllocated(view, at, host, copied);
  }

  #writeSnapshots(tables) {
    if (this.#snapshots.length === 0) return 0;
    const table = this.#snapshots.map(({ id, name }, index) => ({
      l1TableOffset: tables[index] ?? 0,
      l1Size: l1Needed(this.#size, geometry),
      dateSec: 1_700_000_000 + index,
      dateNsec: 0,
      vmClockNsec: 0n,
      vmStateSize32: 0,
      vmStateSize64: 0,
      diskSize: this.#size,
      icount: ICOUNT_OFF,
      unknownExtra: new Uint8Array(0),
      id: nameOf(id),
      name: nameOf(name),
    }));
    return this.#storeCounted(encodeSnapshotTable(table));
  }

  #writeRefcounts() {
    this.#add(0, FIRST_FREE - 1);
    const table = Buffer.alloc(CLUSTER);
    writeRefcountTableEntry(viewOf(table), 0, 2 * CLUSTER);
    const block = Buffer.alloc(CLUSTER);
    for (const [cluster, count] of this.#refcounts)
      setRefcount(block, cluster, SHAPE.refcountOrder, count);
    writeSync(this.#file, table, 0, CLUSTER, CLUSTER);
    writeSync(this.#file, block, 0, CLUSTER, 2 * CLUSTER);
  }

  #writeHeader(l1TableOffset, snapshotsOffset) {
    const header = {
      ...SHAPE,
      version: /** @type {3} */ (3),
      backingFileOffset: 0,
      backingFileSize: 0,
      size: this.#size,
      cryptMethod: 0,
      l1Size: l1Needed(this.#size, geometry),
      l1TableOffset,
      refcountTableOffset: CLUSTER,
      refcountTableClusters: 1,
      nbSnapshots: this.#snapshots.length,
      snapshotsOffset,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      headerLength: HEADER_V3_BYTES,
      compressionType: 0,
      unknownFields: new Uint8Array(0),
    };
    const parts =
      this.#backing === undefined
        ? { header, extensions: [] }
        : {
            header,
            extensions: [backingFormatExtension('qcow2')],
            backingFileName: nameOf(this.#backing),
          };
    writeSync(this.#file, buildHeaderCluster(parts, CLUSTER), 0, CLUSTER, 0);
  }
}
