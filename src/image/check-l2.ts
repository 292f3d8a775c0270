import { hex } from '../errors.ts';
import {
  L2_DATA_FILE,
  L2_VERSION_2,
  RUN_ATTR_COPIED,
  RUN_ATTR_RESERVED,
  RUN_COMPRESSED,
  RUN_INVALID,
  RUN_UNALLOCATED,
  RUN_ZERO_PLAIN,
} from '../kernel/abi.ts';
import { RunReader } from '../kernel/run-reader.ts';
import type { MaybePromise } from '../storage/storage.ts';
import { PIECE_BYTES } from './check-counts.ts';
import type { CheckedFile } from './check-file.ts';
import { type L2TableUses, wordText } from './check-l1.ts';
import { RunCounter } from './check-runs.ts';
import { NO_BLOCK, type StoredCounts, UNUSABLE } from './check-stored.ts';
import type { TableRepair } from './repair-tables.ts';

const RUN_CAPACITY = 8192;
const TWO_32 = 2 ** 32;
const NO_CLUSTER = -1;

/**
 * Walks L2 tables, each once: counts what they refer to, gathers statistics of the active ones, and
 * verifies bit 63 there. What is right is done by the kernel; other runs, those that are long and the
 * first of a piece of counters are handled as a whole, and entries one by one only where the kernel
 * calls them compressed, invalid or reserved bits are set.
 */
export class L2Walker {
  /** Entries of the active tree, by use (format section 18, counters). */
  allocated = 0;
  compressed = 0;
  fragmented = 0;
  /** Zero clusters whose offset is no cluster's: it can be left out. */
  unalignedZeros = 0;
  readonly #file: CheckedFile;
  readonly #stored: StoredCounts;
  readonly #runs: RunReader;
  readonly #counter: RunCounter;
  readonly #ones: number;
  readonly #hasDataFile: boolean;
  readonly #repair: TableRepair | undefined;
  #view: DataView;
  #uses: L2TableUses = { offset: 0, total: 0, active: 0, l1Index: -1 };
  /** Whether bit 63 of the table's entries is compared. */
  #verifies = false;

  /** @param repair changes entries that are wrong, where it can, instead of reporting them */
  constructor(file: CheckedFile, stored: StoredCounts, repair?: TableRepair) {
    this.#file = file;
    this.#stored = stored;
    this.#repair = repair;
    this.#hasDataFile = file.metadata.hasDataFile;
    this.#runs = new RunReader(file.kernel.arena, RUN_CAPACITY);
    this.#counter = new RunCounter(file, this.#runs);
    const { access, kernel } = file;
    this.#ones = kernel.arena.allocate(PIECE_BYTES).ptr;
    kernel.exports.refcount_fill(this.#ones, access.order, 0, access.perPiece, 1);
    this.#view = new DataView(kernel.arena.u8.buffer);
  }

  /** Counts a table and everything it refers to, as often as the table is used. */
  async walk(uses: L2TableUses): Promise<void> {
    const { clusterSize, l2EntrySize, l2Coverage } = this.#file.geometry;
    const { offset, total, active, l1Index } = uses;
    this.#file.addRegion('L2 table', offset, offset, clusterSize, total);
    this.#repair?.begin('L2 table', offset, clusterSize, total);
    this.#uses = uses;
    if (this.#hasDataFile && active > 1) this.#refuseShared();
    // The bits below a table whose own counter is out of reach are not judged, as in QEMU.
    const counter = this.#stored.counter(Math.floor(offset / clusterSize));
    this.#verifies = active > 0 && offset !== 0 && (await counter) !== UNUSABLE;
    this.#counter.begin(total, this.#verifies);
    const guest = Math.max(0, l1Index) * l2Coverage;
    await this.#file.eachPart(offset, offset + clusterSize, (pointer, at, bytes) => {
      const first = (at - offset) / l2EntrySize;
      return this.#part(pointer, at, bytes / l2EntrySize, guest + first * clusterSize);
    });
    this.allocated += this.#counter.entries * active;
    this.fragmented += this.#counter.breaks * active;
    this.#file.references.noteHighest(this.#counter.highest);
  }

  /** Decodes entries that lie together; `at` is the host offset of the first. */
  async #part(pointer: number, at: number, count: number, guest: number): Promise<void> {
    const { exports } = this.#file.kernel;
    const { clusterBits, clusterSize, l2EntrySize, extendedL2 } = this.#file.geometry;
    const decode = extendedL2 ? exports.l2_decode_extended : exports.l2_decode;
    const attributes = RUN_ATTR_COPIED | RUN_ATTR_RESERVED;
    for (let done = 0; done < count; ) {
      const table = pointer + done * l2EntrySize;
      const base = guest + done * clusterSize;
      this.#runs.count = decode(
        table,
        0,
        count - done,
        clusterBits,
        this.#flags(),
        attributes,
        base,
        Number.POSITIVE_INFINITY,
        this.#runs.pointer,
        this.#runs.capacity,
      );
      done += await this.#handleRuns(table, at + done * l2EntrySize, base);
    }
    await this.#repair?.store(pointer, at);
  }

  #flags(): number {
    const version = this.#file.header.version === 2 ? L2_VERSION_2 : 0;
    // Where a snapshot's table belongs on the disk is not known here: no offset can be compared.
    return version | (this.#hasDataFile && this.#uses.active > 0 ? L2_DATA_FILE : 0);
  }

  /** Handles the runs decoded; returns how many entries they cover. */
  async #handleRuns(table: number, at: number, guest: number): Promise<number> {
    const { clusterSize, l2EntrySize, subclustersPerCluster, subclusterSize } = this.#file.geometry;
    const runs = this.#runs;
    for (let i = 0; i < runs.count; i++) {
      if (!this.#hasDataFile) i = this.#counter.countFrom(i);
      if (i === runs.count) break;
      // Of subclusters, the first of its cluster stands for all.
      const unit = runs.first(i);
      const entry = Math.ceil(unit / subclustersPerCluster);
      const end = Math.ceil((unit + runs.units(i)) / subclustersPerCluster);
      const kind = runs.kind(i);
      const aux = runs.aux(i);
      const single = kind === RUN_COMPRESSED || kind === RUN_INVALID;
      if (single || (aux & RUN_ATTR_RESERVED) !== 0) {
        for (let k = entry; k < end; k++) {
          const word = table + k * l2EntrySize;
          const host = this.#addEntry(word, at + k * l2EntrySize, guest + k * clusterSize);
          if (host === NO_CLUSTER) continue;
          const pending = this.#verifyCopied(host, 1, this.#isCopied(word), word, at, k);
          if (pending !== undefined) await pending;
        }
      } else if (kind !== RUN_UNALLOCATED && kind !== RUN_ZERO_PLAIN && end > entry) {
        const skipped = entry * subclustersPerCluster - unit;
        const host = runs.host(i) + skipped * subclusterSize;
        this.#addClusters(host, end - entry, at + entry * l2EntrySize);
        const copied = (aux & RUN_ATTR_COPIED) !== 0;
        const word = table + entry * l2EntrySize;
        const pending = this.#verifyCopied(host, end - entry, copied, word, at, entry);
        if (pending !== undefined) await pending;
      }
    }
    return Math.ceil(runs.first(runs.count) / subclustersPerCluster);
  }

  /** Counts `count` clusters that follow each other, named by entries from host offset `at` on. */
  #addClusters(host: number, count: number, at: number): void {
    const { clusterSize, l2EntrySize } = this.#file.geometry;
    const { total } = this.#uses;
    this.#counter.place(host, count * clusterSize, count);
    if (this.#hasDataFile) return;
    const first = host / clusterSize;
    const inFile = Math.max(0, Math.min(count, this.#file.clusters - first));
    this.#file.references.add(first, inFile, total);
    for (let k = inFile; k < count; k++) {
      const offset = host + k * clusterSize;
      this.#file.reportPastEnd('L2 entry', at + k * l2EntrySize, offset, clusterSize, total);
    }
  }

  /** Judges and counts one entry; returns its host offset if it has a cluster to verify. */
  #addEntry(word: number, at: number, guest: number): number {
    const { geometry, header } = this.#file;
    const view = this.#memory();
    const high = view.getUint32(word);
    const low = view.getUint32(word + 4);
    const zeroBits = geometry.extendedL2 ? view.getUint32(word + 8) : 0;
    const allocBits = geometry.extendedL2 ? view.getUint32(word + 12) : 0;
    if ((high & 0x40000000) !== 0) {
      this.#addCompressed(high, low, (zeroBits | allocBits) !== 0, at);
      return NO_CLUSTER;
    }
    if ((high & 0x3f000000) !== 0 || (low & 0x1fe) !== 0) {
      this.#corrupt(at, () => `has reserved bits set: ${wordText(high, low)}`);
    }
    const isZero = !geometry.extendedL2 && (low & 1) !== 0;
    if (isZero && header.version === 2) {
      this.#refuse(at, 1, 'has the zero flag, which version 2 does not have');
    }
    const host = (high & 0xffffff) * TWO_32 + ((low & ~0x1ff) >>> 0);
    if (host === 0 && (isZero || !this.#hasDataFile || high >>> 31 === 0)) {
      if (allocBits !== 0) this.#lost(at, () => 'allocates subclusters without a host cluster');
      return NO_CLUSTER;
    }
    const isAligned = host % geometry.clusterSize === 0;
    const hasData = geometry.extendedL2 ? allocBits !== 0 : !isZero || header.version === 2;
    if (!isAligned && !hasData && this.#leaveOutOffset(word, at, host)) return NO_CLUSTER;
    if ((allocBits & zeroBits) !== 0) {
      this.#corrupt(at, () => 'marks a subcluster both allocated and zero');
    }
    if (!isAligned) this.#corruptOffset(at, host, hasData);
    else if (this.#hasDataFile && this.#uses.active > 0 && host !== guest) {
      this.#refuse(at, 1, `data-file offset ${hex(host)} differs from guest offset ${hex(guest)}`);
    }
    if (isAligned) this.#addClusters(host, 1, at);
    else this.#addUnaligned(host, at);
    return host;
  }

  #addUnaligned(host: number, at: number): void {
    const { clusterSize } = this.#file.geometry;
    this.#counter.place(host, clusterSize, 1);
    const { total } = this.#uses;
    if (!this.#hasDataFile) this.#file.addRegion('L2 entry', at, host, clusterSize, total);
  }

  #addCompressed(high: number, low: number, hasBitmap: boolean, at: number): void {
    const { total, active } = this.#uses;
    if (high >>> 31 !== 0) this.#corrupt(at, () => 'has the copied flag on a compressed cluster');
    if (this.#hasDataFile) {
      this.#lost(at, () => 'is compressed in an image with an external data file');
      return;
    }
    if (hasBitmap) {
      this.#lost(at, () => 'has a subcluster bitmap on a compressed cluster');
      return;
    }
    const [offset, bytes] = this.#descriptor(high, low);
    const counted = this.#file.addRegion('L2 entry', at, offset, bytes, total);
    if (counted && offset >= this.#file.storage.size) {
      this.#refuse(at, 1, `compressed stream at ${hex(offset)} starts past the end of the file`);
    }
    this.allocated += active;
    this.compressed += active;
    this.fragmented += active;
  }

  /** Offset and greatest length of a stream (format section 8); rounded beyond 2^53. */
  #descriptor(high: number, low: number): [offset: number, bytes: number] {
    const { clusterBits, compressedOffsetBits } = this.#file.geometry;
    const shift = compressedOffsetBits - 32;
    const offset = (high & (2 ** shift - 1)) * TWO_32 + low;
    const sectors = (high >>> shift) & (2 ** (clusterBits - 8) - 1);
    return [offset, (sectors + 1) * 512 - (low & 511)];
  }

  /** Compares bit 63 of active entries with the stored counters, whatever the references are. */
  #verifyCopied(
    host: number,
    count: number,
    copied: boolean,
    word: number,
    at: number,
    entry: number,
  ): MaybePromise<void> {
    if (!this.#verifies) return undefined;
    const { clusterSize, l2EntrySize } = this.#file.geometry;
    if (this.#hasDataFile) {
      for (let k = 0; k < count && !copied; k++) this.#wrongCopied(word, at, entry, k, 1);
      return undefined;
    }
    const { perPiece } = this.#file.access;
    const first = Math.floor(host / clusterSize);
    for (let done = 0; done < count; ) {
      const piece = Math.floor((first + done) / perPiece);
      const found = this.#stored.piece(piece);
      if (typeof found !== 'number') {
        const next = word + done * l2EntrySize;
        const from = host + done * clusterSize;
        return found.then(() =>
          this.#verifyCopied(from, count - done, copied, next, at, entry + done),
        );
      }
      const index = first + done - piece * perPiece;
      const n = Math.min(count - done, perPiece - index);
      if (!copied || found <= NO_BLOCK || !this.#areOnes(found, index, n)) {
        this.#comparePiece(found, index, n, copied, (i, value) => {
          this.#wrongCopied(word, at, entry, done + i - index, value);
        });
      }
      done += n;
    }
    return undefined;
  }

  #areOnes(pointer: number, index: number, n: number): boolean {
    const { access, kernel } = this.#file;
    return kernel.exports.refcount_compare(pointer, this.#ones, access.order, index, n) < 0;
  }

  /** Reports each of `n` stored counters that is 1 without the flag, or not 1 with it. */
  #comparePiece(
    pointer: number,
    index: number,
    n: number,
    copied: boolean,
    wrong: (index: number, value: number) => void,
  ): void {
    const { access, kernel } = this.#file;
    if (pointer === UNUSABLE) return;
    if (pointer === NO_BLOCK) {
      for (let i = index; i < index + n && copied; i++) wrong(i, 0);
    } else if (!copied) {
      access.eachOne(pointer, index, n, (i) => wrong(i, 1));
    } else {
      for (let i = index; i < index + n; i++) {
        const rest = index + n - i;
        i = kernel.exports.refcount_compare(pointer, this.#ones, access.order, i, rest);
        if (i < 0) return;
        wrong(i, access.get(pointer, i));
      }
    }
  }

  #wrongCopied(word: number, at: number, entry: number, k: number, refcount: number): void {
    const { l2EntrySize } = this.#file.geometry;
    const { active } = this.#uses;
    const position = at + (entry + k) * l2EntrySize;
    const pointer = word + k * l2EntrySize;
    const text = (): string => {
      const value = this.#memory().getBigUint64(pointer).toString(16);
      return `OFLAG_COPIED data cluster: l2_entry=${value} refcount=${refcount}`;
    };
    if (this.#repair?.setCopied(pointer, position, refcount === 1, active, text)) return;
    this.#file.findings.addCopied('L2 entry', position, active, () => `ERROR ${text()}`);
  }

  /** Makes an entry a plain zero cluster that has an offset which is no cluster's; false: not now. */
  #leaveOutOffset(word: number, at: number, host: number): boolean {
    this.unalignedZeros++;
    const { extendedL2 } = this.#file.geometry;
    const text = (): string => `L2 entry at ${hex(at)}: host offset ${hex(host)} of a zero cluster`;
    return this.#repair?.setWord(word, at, extendedL2 ? 0 : 1, text) ?? false;
  }

  #isCopied(word: number): boolean {
    return this.#file.kernel.arena.u8[word]! >= 0x80;
  }

  #corrupt(at: number, text: () => string): void {
    this.#file.findings.add('corruption', 'L2 entry', at, this.#uses.total, () => {
      return `ERROR L2 entry at ${hex(at)} ${text()}`;
    });
  }

  /** Like `#corrupt`, for an entry that cannot be followed. */
  #lost(at: number, text: () => string): void {
    this.#file.findings.lost++;
    this.#corrupt(at, text);
  }

  #corruptOffset(at: number, host: number, hasData: boolean): void {
    const text = (): string => `names host offset ${hex(host)}, which is not cluster aligned`;
    if (hasData) this.#lost(at, text);
    else this.#corrupt(at, text);
  }

  #refuse(at: number, count: number, text: string): void {
    this.#file.findings.add('refusal', 'L2 entry', at, count, () => {
      return `UNREADABLE L2 entry at ${hex(at)}: ${text}`;
    });
  }

  /** In a data file every cluster has one place: a table in two places is right in one at most. */
  #refuseShared(): void {
    const { offset, active } = this.#uses;
    this.#file.findings.add('refusal', 'L2 table', offset, active - 1, () => {
      const text = `used for ${active} parts of the disk, of which a data file can hold one`;
      return `UNREADABLE L2 table at ${hex(offset)}: ${text}`;
    });
  }

  #memory(): DataView {
    const { buffer } = this.#file.kernel.arena.u8;
    if (this.#view.buffer !== buffer) this.#view = new DataView(buffer);
    return this.#view;
  }
}
