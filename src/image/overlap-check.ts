import { hex, Qcow2Error } from '../errors.ts';
import { clustersFor, type Geometry } from '../format/geometry.ts';
import { findExtension } from '../format/header-extensions.ts';
import type { Storage } from '../storage/storage.ts';
import { ClusterSet } from './cluster-set.ts';
import { type Metadata, readBitmaps, readSnapshots } from './metadata.ts';

/** Structures of the image file that no write may touch but their own (format section 17). */
export type Structure =
  | 'header'
  | 'active L1 table'
  | 'L2 table'
  | 'refcount table'
  | 'refcount block'
  | 'snapshot table'
  | 'snapshot L1 table'
  | 'bitmap directory'
  | 'bitmap table'
  | 'LUKS area';

/** Bytes of a table looked at at once. */
const PIECE_BYTES = 1 << 20;

/**
 * Knows where the metadata of an open image lies, and refuses writes that would land on it: whatever
 * the refcounts say, a damaged image must not be damaged further.
 */
export class OverlapCheck {
  readonly #sets = new Map<Structure, ClusterSet>();
  readonly #geometry: Geometry;
  readonly #name: string | undefined;

  constructor(geometry: Geometry, name: string | undefined) {
    this.#geometry = geometry;
    this.#name = name;
  }

  /** Learns every structure the file's metadata leads to. */
  static async load(storage: Storage, metadata: Metadata): Promise<OverlapCheck> {
    const check = new OverlapCheck(metadata.geometry, storage.name);
    const { header, geometry, extensions } = metadata;
    const { clusterSize } = geometry;
    check.claim('header', 0, clusterSize);
    check.claim('active L1 table', header.l1TableOffset, header.l1Size * 8);
    await check.#claimTargets('L2 table', storage, header.l1TableOffset, header.l1Size * 8);
    const tableBytes = header.refcountTableClusters * clusterSize;
    check.claim('refcount table', header.refcountTableOffset, tableBytes);
    await check.#claimTargets('refcount block', storage, header.refcountTableOffset, tableBytes);
    await check.#claimSnapshots(storage, metadata);
    const luks = findExtension(extensions, 'encryption-pointer')?.pointer;
    if (luks) check.claim('LUKS area', luks.offset, luks.length);
    const directory = findExtension(extensions, 'bitmaps')?.pointer;
    const bitmaps = await readBitmaps(storage, metadata);
    if (directory && bitmaps.length > 0)
      check.claim(
        'bitmap directory',
        directory.bitmapDirectoryOffset,
        directory.bitmapDirectorySize,
      );
    for (const { bitmapTableOffset, bitmapTableSize } of bitmaps)
      check.claim('bitmap table', bitmapTableOffset, bitmapTableSize * 8);
    return check;
  }

  /** A structure lies there from now on. */
  claim(structure: Structure, offset: number, length: number): void {
    this.#set(structure, offset, length, true);
  }

  /** A structure does not lie there any more. */
  release(structure: Structure, offset: number, length: number): void {
    this.#set(structure, offset, length, false);
  }

  /**
   * The structure that a write would damage; undefined if none.
   * @param own what is being written, if it is a structure itself
   */
  find(offset: number, length: number, own?: Structure): Structure | undefined {
    const first = Math.floor(offset / this.#geometry.clusterSize);
    const count = clustersFor(offset + length, this.#geometry) - first;
    for (const [structure, clusters] of this.#sets)
      if (structure !== own && clusters.firstIn(first, count) >= 0) return structure;
    return undefined;
  }

  /** The error for a write on a structure. */
  refusal(offset: number, length: number, hit: Structure, writing: string): Qcow2Error {
    const text =
      `write of ${writing} to offset ${hex(offset)} (${length} bytes) of '${this.#name}' would overwrite ` +
      `the ${hit}; nothing was written, repair the image (check -r all)`;
    return new Qcow2Error('BAD_ENTRY', text, { structure: hit, offset });
  }

  #set(structure: Structure, offset: number, length: number, member: boolean): void {
    if (length <= 0) return;
    let clusters = this.#sets.get(structure);
    if (clusters === undefined) {
      clusters = new ClusterSet();
      this.#sets.set(structure, clusters);
    }
    const first = Math.floor(offset / this.#geometry.clusterSize);
    clusters.set(first, clustersFor(offset + length, this.#geometry) - first, member);
  }

  /** Claims the cluster each entry of a table points to. Entries that are no offsets are left out. */
  async #claimTargets(
    structure: Structure,
    storage: Storage,
    offset: number,
    bytes: number,
  ): Promise<void> {
    const { clusterSize } = this.#geometry;
    const piece = new Uint8Array(Math.min(PIECE_BYTES, bytes));
    const view = new DataView(piece.buffer);
    for (let at = 0; at < bytes; at += PIECE_BYTES) {
      const n = await storage.read(
        offset + at,
        piece.subarray(0, Math.min(PIECE_BYTES, bytes - at)),
      );
      for (let entry = 0; entry + 8 <= n; entry += 8) {
        // Bits 9 to 55; a refcount block past that is past every file.
        const high = view.getUint32(entry) & 0xffffff;
        const low = (view.getUint32(entry + 4) & 0xfffffe00) >>> 0;
        const target = high * 2 ** 32 + low;
        if (target !== 0 && target < storage.size) this.claim(structure, target, clusterSize);
      }
    }
  }

  async #claimSnapshots(storage: Storage, metadata: Metadata): Promise<void> {
    const snapshots = await readSnapshots(storage, metadata);
    const { snapshotsOffset } = metadata.header;
    let bytes = 0;
    for (const snapshot of snapshots) {
      const { id, name, unknownExtra, diskSize, icount, vmStateSize64 } = snapshot;
      const known = [vmStateSize64, diskSize, icount].filter((field) => field !== undefined).length;
      const length = 40 + known * 8 + unknownExtra.length + id.raw.length + name.raw.length;
      bytes = Math.ceil(bytes / 8) * 8 + length;
      if (snapshot.l1TableOffset < storage.size)
        this.claim('snapshot L1 table', snapshot.l1TableOffset, snapshot.l1Size * 8);
    }
    this.claim('snapshot table', snapshotsOffset, bytes);
  }
}
