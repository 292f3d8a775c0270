import { isQcow2Error } from '../errors.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA_FILE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import { encodeSnapshotTable } from '../format/snapshot-table.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Storage } from '../storage/storage.ts';
import { Comparison } from './check-compare.ts';
import { CheckPass, type PassOptions } from './check-pass.ts';
import { HeaderState } from './header-state.ts';
import type { Metadata } from './metadata.ts';
import { RepairLog } from './repair-log.ts';
import { rebuildRefcounts } from './repair-rebuild.ts';
import { TableRepair } from './repair-tables.ts';
import { SyncedFile } from './synced-file.ts';

/** What is repaired: clusters nothing refers to, or all that can be. */
export type RepairMode = 'leaks' | 'all';

/** How to repair. */
export interface RepairRules extends Omit<PassOptions, 'kernel' | 'cuts' | 'repair'> {
  readonly mode: RepairMode;
  /** Makes the kernel of each way through the image: its memory goes with it. */
  readonly makeKernel: () => Kernel;
}

/** What a repair did. */
export interface Repaired {
  /** The first look, before anything but unusable offsets of zero clusters was changed. */
  readonly before: CheckPass;
  /** The last look; `before` if nothing was changed. */
  readonly after: CheckPass;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  readonly log: RepairLog;
  /** Counters must be made anew, which `leaks` does not do: nothing was changed. */
  readonly needsAll: boolean;
}

/**
 * Repairs the metadata of an image in its file (format section 18). Nothing is changed by a guess: where
 * entries are lost, what nothing refers to stays in use. Whatever the moment of a cut, the guest has what
 * it had, and another repair ends where this one would have.
 * @throws Qcow2Error those of `CheckPass.run`, and of writing
 */
export function repairImage(
  storage: Storage,
  metadata: Metadata,
  rules: RepairRules,
): Promise<Repaired> {
  return new ImageRepair(storage, metadata, rules).run();
}

class ImageRepair {
  readonly #rules: RepairRules;
  readonly #file: SyncedFile;
  readonly #header: HeaderState;
  readonly #log: RepairLog;
  #corruptionsFixed = 0;
  #leaksFixed = 0;
  #hasWritten = false;

  constructor(storage: Storage, metadata: Metadata, rules: RepairRules) {
    this.#rules = rules;
    this.#file = new SyncedFile(storage);
    this.#header = new HeaderState(this.#file, metadata);
    this.#log = new RepairLog(rules.maxFindings);
  }

  async run(): Promise<Repaired> {
    const repairsAll = this.#rules.mode === 'all';
    let before = await this.#look();
    if (repairsAll && before.walker.unalignedZeros > 0) before = await this.#repairEntries(before);
    const isUncounted = before.needsRebuild || before.comparison.hasUncounted;
    if (!repairsAll && isUncounted) {
      this.#log.keep('the refcount structures are damaged and must be repaired first (-r all)');
      return this.#result(before, before, true);
    }
    const afterCounters = await this.#repairCounters(before);
    const after = await this.#repairFlags(afterCounters);
    await this.#clearMarks(after);
    this.#tellWhatStays(after);
    return this.#result(before, after, false);
  }

  /** Goes through the image as it is now. */
  #look(repair?: TableRepair, kernel: Kernel = this.#rules.makeKernel()): Promise<CheckPass> {
    const { maxFindings, step, onProgress } = this.#rules;
    const cuts = this.#rules.mode === 'all';
    const options = { kernel, maxFindings, step, onProgress, cuts };
    return CheckPass.run(
      this.#file.storage,
      this.#header.metadata,
      repair === undefined ? options : { ...options, repair },
    );
  }

  /** Leaves out what zero clusters name that is no cluster's offset; looks again. */
  async #repairEntries({ file }: CheckPass): Promise<CheckPass> {
    const { references, geometry, findings } = file;
    await this.#begin(false);
    const kernel = this.#rules.makeKernel();
    const rules = {
      references,
      clusterSize: geometry.clusterSize,
      overflowed: findings.overflows > 0,
      flags: false,
      entries: true,
    };
    const repair = new TableRepair(this.#file, kernel, rules, this.#log);
    await this.#look(repair, kernel);
    await this.#file.sync();
    this.#corruptionsFixed += repair.fixed;
    return this.#look();
  }

  /** Makes counters agree with references; looks again if any changed. */
  async #repairCounters(before: CheckPass): Promise<CheckPass> {
    const { findings, comparison, snapshots } = before;
    const wrong = findings.corruptions - findings.copiedFlags;
    const repairsAll = this.#rules.mode === 'all';
    const lowers = findings.lost === 0;
    const hasNewTable = repairsAll && snapshots.repaired !== undefined && lowers;
    const moves = repairsAll && (before.needsRebuild || hasNewTable);
    const changes = (lowers && findings.leaks > 0) || (repairsAll && comparison.lows > 0);
    if (!moves && !changes) return before;
    await this.#begin(this.#mayMarkDirty(before) && (repairsAll || comparison.sharedLeaks > 0));
    if (!moves) await this.#changeCounters(before, lowers);
    else if (!(await this.#rebuild(before, lowers, hasNewTable))) return before;
    await this.#file.sync();
    const after = await this.#look();
    const left = after.findings.corruptions - after.findings.copiedFlags;
    this.#corruptionsFixed += Math.max(0, wrong - left);
    this.#leaksFixed += Math.max(0, findings.leaks - after.findings.leaks);
    return after;
  }

  /**
   * Whether all that is wrong will be right in the end: only then may the image be marked dirty, for who
   * opens it after a cut repairs it without asking.
   */
  #mayMarkDirty({ findings, comparison, stored, snapshots }: CheckPass): boolean {
    const { corruptions, copiedFlags, lost, overflows } = findings;
    const counters = comparison.lows + stored.faults + snapshots.faults;
    const repaired = this.#rules.mode === 'all' ? counters : 0;
    return lost === 0 && overflows === 0 && corruptions === copiedFlags + repaired;
  }

  async #changeCounters(before: CheckPass, lowers: boolean): Promise<void> {
    const { clusterSize } = before.file.geometry;
    const freed = new FreedClusters(this.#file, clusterSize);
    const repair = new Comparison(before.file, before.stored, {
      lowers,
      raises: this.#rules.mode === 'all',
      changed: (cluster, stored, references) => {
        this.#log.repaired(() => `cluster ${cluster} refcount=${stored} reference=${references}`);
        if (references === 0) freed.add(cluster);
      },
      write: async (offset, bytes) => {
        await this.#file.write(offset, bytes);
        await freed.discard();
      },
    });
    await repair.run();
    await freed.discard();
  }

  /** Makes the refcount structures anew; false: it cannot be done. */
  async #rebuild(before: CheckPass, lowers: boolean, hasNewTable: boolean): Promise<boolean> {
    if (before.leadsIntoHeader) {
      // One of the words is the refcount table's offset: wherever that goes, it is named twice.
      const text = 'an L1 entry leads into the header: the refcount structure cannot be rebuilt';
      this.#log.keep(text);
      return false;
    }
    const { maxFindings, step, makeKernel } = this.#rules;
    const options = { kernel: makeKernel(), maxFindings, step, cuts: true };
    const pass = await CheckPass.count(this.#file.storage, this.#header.metadata, options);
    const { repaired } = before.snapshots;
    const table = hasNewTable
      ? { bytes: encodeSnapshotTable(repaired!), count: repaired!.length }
      : undefined;
    if (before.needsRebuild) this.#log.announce('Rebuilding refcount structure');
    try {
      await rebuildRefcounts(this.#file, this.#header, pass, !lowers, table);
      return true;
    } catch (error) {
      if (!isQcow2Error(error) || (error.code !== 'REFUSED' && error.code !== 'TOO_LARGE'))
        throw error;
      this.#log.keep(error.message);
      return false;
    }
  }

  /** Makes bit 63 agree with the counters, once these are right; looks again if any changed. */
  async #repairFlags(pass: CheckPass): Promise<CheckPass> {
    const { findings, file } = pass;
    const { copiedFlags, corruptions, checkErrors, leaks, overflows } = findings;
    const isAllElseRight = corruptions === copiedFlags && checkErrors === 0 && leaks === 0;
    if (copiedFlags === 0 || (this.#rules.mode === 'leaks' && !isAllElseRight)) return pass;
    await this.#begin(false);
    const kernel = this.#rules.makeKernel();
    const repair = new TableRepair(
      this.#file,
      kernel,
      {
        references: file.references,
        clusterSize: file.geometry.clusterSize,
        overflowed: overflows > 0,
        flags: true,
        entries: false,
      },
      this.#log,
    );
    await this.#look(repair, kernel);
    await this.#file.sync();
    this.#corruptionsFixed += repair.fixed;
    return this.#look();
  }

  /** The dirty bit goes when counters and flags are right, the corrupt bit when everything is. */
  async #clearMarks({ findings, comparison, stored }: CheckPass): Promise<void> {
    const { incompatibleFeatures } = this.#header.header;
    const { corruptions, copiedFlags, checkErrors, refusals, overflows } = findings;
    let bits = incompatibleFeatures;
    const miscounted = comparison.lows + copiedFlags + stored.faults + checkErrors + overflows;
    if (miscounted === 0 && !stored.mustMove) bits &= ~INCOMPATIBLE_DIRTY;
    if (corruptions + checkErrors + refusals === 0) bits &= ~INCOMPATIBLE_CORRUPT;
    if (bits === incompatibleFeatures) return;
    await this.#begin(false);
    await this.#header.update({ incompatibleFeatures: bits });
    await this.#file.sync();
  }

  #tellWhatStays({ findings, comparison, stored, snapshots }: CheckPass): void {
    const { corruptions, copiedFlags, leaks, lost, overflows } = findings;
    const log = this.#log;
    if (lost > 0)
      log.keep(`${lost} damaged entries stay as they are: nothing tells what they should name`);
    if (lost > 0 && leaks > 0)
      log.keep(`${leaks} leaked clusters are kept: they may hold what the damaged entries lost`);
    if (overflows > 0)
      log.keep(
        `${overflows} references have no counter: widen the counters (amend -o refcount_bits)`,
      );
    const rest = corruptions - copiedFlags - comparison.lows - stored.faults - overflows;
    if (rest > 0 && lost === 0 && this.#rules.mode === 'all' && snapshots.repaired === undefined)
      log.keep(`${rest} findings stay as they are: nothing tells what would be right there`);
  }

  /** Prepares the file for the first write. */
  async #begin(marksDirty: boolean): Promise<void> {
    const { autoclearFeatures, incompatibleFeatures, version } = this.#header.header;
    if (!this.#hasWritten) {
      this.#hasWritten = true;
      const known = AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA_FILE;
      await this.#header.update({ autoclearFeatures: autoclearFeatures & known });
    }
    if (marksDirty && version > 2)
      await this.#header.update({
        incompatibleFeatures: incompatibleFeatures | INCOMPATIBLE_DIRTY,
      });
    await this.#file.sync();
  }

  #result(before: CheckPass, after: CheckPass, needsAll: boolean): Repaired {
    return {
      before,
      after,
      corruptionsFixed: this.#corruptionsFixed,
      leaksFixed: this.#leaksFixed,
      log: this.#log,
      needsAll,
    };
  }
}

/** Gives the space of clusters back that have become free, neighbours together. */
class FreedClusters {
  readonly #file: SyncedFile;
  readonly #clusterSize: number;
  /** First and count by turns. */
  #runs: number[] = [];

  constructor(file: SyncedFile, clusterSize: number) {
    this.#file = file;
    this.#clusterSize = clusterSize;
  }

  add(cluster: number): void {
    const last = this.#runs.length - 2;
    if (last >= 0 && this.#runs[last]! + this.#runs[last + 1]! === cluster) this.#runs[last + 1]!++;
    else this.#runs.push(cluster, 1);
  }

  async discard(): Promise<void> {
    const runs = this.#runs;
    this.#runs = [];
    for (let i = 0; i < runs.length; i += 2) {
      const offset = runs[i]! * this.#clusterSize;
      const end = Math.min(offset + runs[i + 1]! * this.#clusterSize, this.#file.size);
      if (end > offset) await this.#file.punchHole(offset, end - offset);
    }
  }
}
