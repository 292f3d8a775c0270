import type { Qcow2Error } from '../errors.ts';
import {
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
} from '../format/feature-bits.ts';
import type { MaybePromise } from '../storage/storage.ts';
import {
  L1_TABLE,
  L2_TABLE,
  REFCOUNT_BLOCK,
  REFCOUNT_TABLE,
  type TableKind,
} from './dirty-pages.ts';
import type { HeaderState } from './header-state.ts';
import type { OverlapCheck, Structure } from './overlap-check.ts';
import type { SyncedFile } from './synced-file.ts';
import type { TableCache } from './table-cache.ts';

const STRUCTURES: Readonly<Record<TableKind, Structure>> = {
  [REFCOUNT_BLOCK]: 'refcount block',
  [REFCOUNT_TABLE]: 'refcount table',
  [L2_TABLE]: 'L2 table',
  [L1_TABLE]: 'active L1 table',
};

/**
 * Brings changed tables to the file in the order that leaves a sound image whenever it is cut short
 * (format section 17): a structure is durable before what points to it is written. Between two
 * commits nothing on the disk changes but guest data in clusters the disk's tables do not share.
 */
export class WriteBack {
  readonly file: SyncedFile;
  readonly dataFile: SyncedFile;
  readonly overlap: OverlapCheck;
  readonly #tables: TableCache;
  readonly #header: HeaderState;
  /** Refcounts may stay behind while the dirty bit is set. */
  readonly #isLazy: boolean;

  /** @param dataFile where guest data goes: the image file itself, or the external data file */
  constructor(
    file: SyncedFile,
    dataFile: SyncedFile,
    tables: TableCache,
    header: HeaderState,
    overlap: OverlapCheck,
  ) {
    this.file = file;
    this.dataFile = dataFile;
    this.overlap = overlap;
    this.#tables = tables;
    this.#header = header;
    this.#isLazy = (header.header.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0n;
  }

  /** Guest data first: tables must not come to name what is not there. */
  async barrier(): Promise<void> {
    if (this.dataFile !== this.file) await this.dataFile.sync();
    await this.file.sync();
  }

  /** To be called before tables are changed: with lazy refcounts they may be wrong from here on. */
  beforeChange(): MaybePromise<void> {
    if (!this.#isLazy || this.#isMarkedDirty) return;
    return this.markDirty();
  }

  /**
   * Sets the dirty bit, durably: refcounts and copied flags may be wrong from here on, and who opens the
   * image after a cut repairs them first. Version 2 has no such bit.
   */
  async markDirty(): Promise<void> {
    const { incompatibleFeatures, version } = this.#header.header;
    if (version === 2 || this.#isMarkedDirty) return;
    await this.#header.update({ incompatibleFeatures: incompatibleFeatures | INCOMPATIBLE_DIRTY });
    await this.file.sync();
  }

  /**
   * Writes the guest mapping, and before it the refcounts it relies on unless they are lazy. What it
   * wrote last is durable only after a `barrier`.
   */
  async commit(): Promise<void> {
    if (!this.#isLazy) await this.#commitRefcounts();
    const changesL1 = this.#tables.isDirty(L1_TABLE);
    if (!changesL1 && !this.#tables.isDirty(L2_TABLE)) return;
    await this.barrier();
    await this.#write(L2_TABLE);
    if (!changesL1) return;
    await this.barrier();
    await this.#write(L1_TABLE);
  }

  /** The same, lazy refcounts too. Nothing is dirty then. */
  async commitAll(): Promise<void> {
    await this.commit();
    await this.#commitRefcounts();
  }

  /** Clears the dirty bit, if it was set (or may have been), when everything else is durable. */
  async finish(): Promise<void> {
    await this.commitAll();
    await this.barrier();
    const { incompatibleFeatures } = this.#header.header;
    await this.#header.update({ incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE_DIRTY });
    await this.file.sync();
  }

  /** Runs steps of which the file must see all or none: an error among them ends all writing. */
  async undivided(steps: () => Promise<void>): Promise<void> {
    try {
      await steps();
    } catch (error) {
      this.file.fail(error);
      throw error;
    }
  }

  /**
   * Refuses a write to clusters that hold metadata.
   * @param own the structure that is being written, if it is one
   * @throws Qcow2Error BAD_ENTRY; the image is marked corrupt
   */
  requireNoOverlap(
    offset: number,
    length: number,
    writing: string,
    own?: Structure,
  ): MaybePromise<void> {
    const hit = this.overlap.find(offset, length, own);
    if (hit === undefined) return;
    return this.markCorrupt(this.overlap.refusal(offset, length, hit, writing));
  }

  /** Records that the image is damaged, refuses all writing from here on and throws the error. */
  async markCorrupt(error: Qcow2Error): Promise<never> {
    try {
      const { incompatibleFeatures, version } = this.#header.header;
      // Version 2 has no place for it.
      if (version === 3) {
        const marked = incompatibleFeatures | INCOMPATIBLE_CORRUPT;
        await this.#header.update({ incompatibleFeatures: marked });
        await this.file.sync();
      }
    } finally {
      this.file.fail(error);
    }
    throw error;
  }

  get #isMarkedDirty(): boolean {
    return (this.#header.header.incompatibleFeatures & INCOMPATIBLE_DIRTY) !== 0n;
  }

  async #commitRefcounts(): Promise<void> {
    await this.#write(REFCOUNT_BLOCK);
    if (!this.#tables.isDirty(REFCOUNT_TABLE)) return;
    await this.barrier();
    await this.#write(REFCOUNT_TABLE);
  }

  async #write(kind: TableKind): Promise<void> {
    if (!this.#tables.isDirty(kind)) return;
    const structure = STRUCTURES[kind];
    await this.#tables.writeBack(kind, (offset, bytes) => {
      const overlaps = this.requireNoOverlap(offset, bytes.length, structure, structure);
      if (overlaps !== undefined) return overlaps;
      return this.file.write(offset, bytes);
    });
  }
}
