import type { Name } from '../format/fields.ts';
import { encodeHeader, type Header, virtualSize } from '../format/header.ts';
import type { HeaderExtension } from '../format/header-extensions.ts';
import { rewriteHeaderCluster } from './header-rewrite.ts';
import type { Metadata } from './metadata.ts';
import { type RecordedBacking, withBacking } from './recorded-backing.ts';
import type { SyncedFile } from './synced-file.ts';

/** The header of an image that is being changed. */
export class HeaderState {
  readonly #file: SyncedFile;
  #metadata: Metadata;
  /** What the file says, but for bytes a failed write may or may not have changed. */
  #stored: Header;
  #uncertain: { from: number; to: number } | undefined;

  constructor(file: SyncedFile, metadata: Metadata) {
    this.#file = file;
    this.#metadata = metadata;
    this.#stored = metadata.header;
  }

  get metadata(): Metadata {
    return this.#metadata;
  }

  get header(): Header {
    return this.#metadata.header;
  }

  /** Changes fields for everybody who asks here, but not in the file yet. */
  stage(changes: Partial<Header>): void {
    const header = { ...this.header, ...changes };
    this.#metadata = { ...this.#metadata, header, virtualSize: virtualSize(header) };
  }

  /**
   * Writes the fields that differ from the file's: one write, from the first byte that differs to the
   * last, so that neighbours such as a table's offset and length change together (all lie in the first
   * sector). Not synced: the caller orders it.
   */
  async store(): Promise<void> {
    const [before, after] = [encodeHeader(this.#stored), encodeHeader(this.header)];
    let from = 0;
    let to = after.length;
    while (from < to && before[from] === after[from]) from++;
    while (to > from && before[to - 1] === after[to - 1]) to--;
    if (this.#uncertain !== undefined) {
      from = Math.min(from, this.#uncertain.from);
      to = Math.max(to, this.#uncertain.to);
    }
    if (to > from) {
      this.#uncertain = { from, to };
      await this.#file.write(from, after.subarray(from, to));
      this.#uncertain = undefined;
    }
    this.#stored = this.header;
  }

  /** Changes fields, in the file too; see `store`. If that fails they are as before for everybody. */
  async update(changes: Partial<Header>): Promise<void> {
    const before = this.#metadata;
    this.stage(changes);
    try {
      await this.store();
    } catch (error) {
      this.#metadata = before;
      throw error;
    }
  }

  /**
   * Changes fields, extensions and backing file name, durably, after all that was written before.
   * Whatever is cut short, the file has the old ones or the new ones; after an error in writing them it
   * takes no more writes.
   * @throws Qcow2Error TOO_LARGE: they do not fit one cluster, nothing has changed; IO
   */
  async rewrite(
    changes: Partial<Header>,
    extensions: readonly HeaderExtension[] = this.#metadata.extensions,
    backingFileName: Name | undefined = this.#metadata.backingFile,
  ): Promise<void> {
    const header = { ...this.header, ...changes };
    const parts = { header, extensions, backingFileName };
    this.#metadata = await rewriteHeaderCluster(this.#file, this.#metadata, parts);
    this.#stored = this.header;
  }

  /**
   * Records another backing file, or none, durably; see `rewrite`.
   * @throws Qcow2Error TOO_LARGE: the name does not fit, nothing has changed; IO
   */
  async changeBacking(backing: RecordedBacking | undefined): Promise<void> {
    await this.store();
    const { extensions, backingFileName } = withBacking(this.#metadata, backing);
    const parts = { header: this.header, extensions, backingFileName };
    this.#metadata = await rewriteHeaderCluster(this.#file, this.#metadata, parts);
    this.#stored = this.header;
  }
}
