import { Qcow2Error } from '../errors.ts';
import { findExtension } from '../format/header-extensions.ts';
import { MAX_CHECK_CLUSTERS } from '../format/limits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { addBitmaps } from './check-bitmaps.ts';
import { Comparison } from './check-compare.ts';
import { CheckedFile } from './check-file.ts';
import { Findings } from './check-findings.ts';
import { L1Tables } from './check-l1.ts';
import { L2Walker } from './check-l2.ts';
import { type CheckedSnapshots, checkSnapshots } from './check-snapshots.ts';
import { StoredCounts } from './check-stored.ts';
import type { Metadata } from './metadata.ts';
import type { TableRepair } from './repair-tables.ts';

/** How to go through an image. */
export interface PassOptions {
  /** Holds the counters, and keeps the memory it was made to take. */
  readonly kernel: Kernel;
  /** Findings listed at most; all are counted. */
  readonly maxFindings: number;
  /** Called between tables; throws to end the check. */
  readonly step: () => void;
  /** How many L2 tables are done, of all. */
  readonly onProgress?: ((done: number, total: number) => void | Promise<void>) | undefined;
  /** Damage of the snapshot table that `check -r all` cuts off is a finding, not an error. */
  readonly cuts?: boolean;
  /** Changes table entries that are wrong. */
  readonly repair?: TableRepair;
}

/**
 * One way through the metadata of an image (format section 18): counts what refers to each cluster, then
 * compares that with the stored counters.
 */
export class CheckPass {
  readonly file: CheckedFile;
  readonly findings: Findings;
  readonly stored: StoredCounts;
  readonly walker: L2Walker;
  readonly snapshots: CheckedSnapshots;
  readonly comparison: Comparison;
  readonly #l1: L1Tables;

  private constructor(
    file: CheckedFile,
    stored: StoredCounts,
    snapshots: CheckedSnapshots,
    repair: TableRepair | undefined,
  ) {
    this.file = file;
    this.findings = file.findings;
    this.stored = stored;
    this.snapshots = snapshots;
    this.walker = new L2Walker(file, stored, repair);
    this.#l1 = new L1Tables(file, stored, repair);
    this.comparison = new Comparison(file, stored);
  }

  /**
   * Goes through a file and compares all counters.
   * @throws Qcow2Error TOO_LARGE, MALFORMED: the check cannot go on; what `step` throws; IO
   */
  static async run(storage: Storage, metadata: Metadata, options: PassOptions): Promise<CheckPass> {
    const pass = await CheckPass.count(storage, metadata, options);
    await pass.#compare();
    return pass;
  }

  /** Counts only what is not a refcount structure or the snapshot table: what those made anew would count. */
  static async count(
    storage: Storage,
    metadata: Metadata,
    { kernel, maxFindings, step, onProgress, cuts = false, repair }: PassOptions,
  ): Promise<CheckPass> {
    const file = new CheckedFile(storage, metadata, kernel, new Findings(maxFindings), step);
    if (file.clusters > MAX_CHECK_CLUSTERS) {
      const text = `the file has ${file.clusters} clusters; at most ${MAX_CHECK_CLUSTERS} can be checked`;
      throw new Qcow2Error('TOO_LARGE', text, { value: file.clusters });
    }
    const snapshots = await checkSnapshots(file, cuts);
    const pass = new CheckPass(file, await StoredCounts.load(file), snapshots, repair);
    await pass.#countTrees(onProgress);
    const luks = findExtension(metadata.extensions, 'encryption-pointer')?.pointer;
    if (luks !== undefined) file.addRegion('LUKS area', luks.offset, luks.offset, luks.length);
    await addBitmaps(file);
    return pass;
  }

  /** Whether counters cannot be repaired where they are. */
  get needsRebuild(): boolean {
    return this.stored.mustMove || this.comparison.lacksBlocks;
  }

  /** Whether an L1 entry leads into the header, whose words are taken for an L2 table then. */
  get leadsIntoHeader(): boolean {
    return this.#l1.names(0);
  }

  /** Header, L1 tables, L2 tables and what they name. */
  async #countTrees(onProgress: PassOptions['onProgress']): Promise<void> {
    const { file } = this;
    const { l1TableOffset, l1Size } = file.header;
    file.addRegion('header', 0, 0, file.geometry.clusterSize);
    await this.#l1.addActive({ offset: l1TableOffset, entries: l1Size });
    await this.#l1.addSnapshots(this.snapshots.l1Tables);
    let done = 0;
    for (const uses of this.#l1.uses()) {
      await this.walker.walk(uses);
      await onProgress?.(++done, this.#l1.count);
    }
  }

  /** Counts what is left, refcount blocks last, and compares. */
  async #compare(): Promise<void> {
    const { file } = this;
    const { refcountTableOffset: table, refcountTableClusters, snapshotsOffset } = file.header;
    file.addRegion('snapshot table', snapshotsOffset, snapshotsOffset, this.snapshots.bytes);
    this.stored.addTable(table, refcountTableClusters);
    this.stored.addBlocks();
    await this.comparison.run();
    // Counters of clusters nothing refers to tell of snapshots that were left out.
    if (this.snapshots.isShortened && this.findings.leaks > 0) this.findings.lost++;
  }
}
