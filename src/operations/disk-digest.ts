/** The digest of a guest disk, taken while the disk is read for another purpose. */
export interface DiskDigest {
  /** By which other threads make the same one. */
  readonly algorithm: string;
  /** Guest bytes it has taken, zeros too. */
  readonly position: number;
  /**
   * What `add` needs of a part of the disk that was read: work that any thread can do, in any order.
   * May be a view of `bytes`; empty says that they are zeros.
   */
  part(bytes: Uint8Array): Uint8Array;
  /** Takes a part of `length` guest bytes, which begins at `position`; keeps no view of it. */
  add(part: Uint8Array, length: number): void;
  /** Takes zeros up to guest offset `end`, or as many of them as a moment allows. */
  addZeros(end: number): void;
}

/** Takes the parts of a disk in their order; what lies between them is zeros. */
export class DigestInOrder {
  readonly digest: DiskDigest;
  readonly #step: () => void | Promise<void>;

  /** @param step called now and then while zeros are taken, which may last */
  constructor(digest: DiskDigest, step: () => void | Promise<void>) {
    this.digest = digest;
    this.#step = step;
  }

  /** Takes guest bytes that were read at `start`. */
  read(start: number, bytes: Uint8Array): Promise<void> {
    return this.add(start, this.digest.part(bytes), bytes.length);
  }

  /** Takes what `DiskDigest.part` made of `length` guest bytes at `start`. */
  async add(start: number, part: Uint8Array, length: number): Promise<void> {
    await this.skipTo(start);
    this.digest.add(part, length);
  }

  /** Takes zeros up to guest offset `end`. */
  async skipTo(end: number): Promise<void> {
    while (this.digest.position < end) {
      this.digest.addZeros(end);
      await this.#step();
    }
  }
}
