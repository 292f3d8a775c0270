import { isQcow2Error } from '../../src/errors.ts';
import type { Bench } from './crash-case.ts';
import type { GuestModel } from './guest-model.ts';
import { SECTOR_BYTES } from './hash.ts';

/** A disk a guest works on. Offsets and lengths are in bytes, whole sectors. */
export interface GuestDisk {
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** The range reads as zeros afterwards; `unmap` gives up its space. */
  writeZeroes?(offset: number, length: number, options: { unmap: boolean }): Promise<void>;
  /** The range is not needed any more: zeros, or what was there. */
  discard?(offset: number, length: number): Promise<void>;
  flush(): Promise<void>;
  read(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export interface WorkloadOptions {
  /** Requests made. */
  requests: number;
  /** Lengths and offsets are multiples of it. Default a sector. */
  unit?: number;
  /** Longest request in units. Default 16. */
  longest?: number;
  /** Only this part of the disk is touched. Default all. */
  span?: number;
  /** One request in so many is a flush. Default 6. */
  flushOneIn?: number;
}

type Request = 'write' | 'zero' | 'discard' | 'flush';

/** Runs random requests, one after the other, and keeps account of what the disk may hold. */
export class Workload {
  readonly model: GuestModel;
  readonly #bench: Bench;
  readonly #disk: GuestDisk;
  /** What the running guest must read. */
  readonly #mirror: Uint8Array;
  /** Sectors of which it may read other things: discarded, or a write to them failed. */
  readonly #uncertain = new Set<number>();
  #written = 0;
  #syncFailed = false;

  /** @param initial what the disk reads at the start */
  constructor(bench: Bench, disk: GuestDisk, model: GuestModel, initial: Uint8Array) {
    this.#bench = bench;
    this.#disk = disk;
    this.model = model;
    this.#mirror = initial.slice();
  }

  /** Makes the requests, flushes and closes. */
  async run(options: WorkloadOptions): Promise<void> {
    const { random } = this.#bench;
    const { unit = SECTOR_BYTES, longest = 16, span = this.#mirror.length } = options;
    for (let i = 0; i < options.requests; i++) {
      const length = unit * (1 + random.below(longest));
      const most = Math.max(0, Math.floor((span - length) / unit));
      const offset = unit * random.below(most + 1);
      const end = Math.min(offset + length, this.#mirror.length);
      await this.#request(this.#choose(options.flushOneIn ?? 6), offset, end - offset);
    }
    await this.#request('flush', 0, 0);
    await this.#tolerate(() => this.#disk.close());
  }

  #choose(flushOneIn: number): Request {
    const { random } = this.#bench;
    if (random.oneIn(flushOneIn)) return 'flush';
    if (this.#disk.discard && random.oneIn(6)) return 'discard';
    if (this.#disk.writeZeroes && random.oneIn(6)) return 'zero';
    return 'write';
  }

  async #request(what: Request, offset: number, length: number): Promise<void> {
    if (what === 'flush') return this.#flush();
    const position = this.#bench.position;
    if (what === 'discard') {
      this.model.zero(position, offset, length);
      this.#doubt(offset, length);
      await this.#tolerate(() => this.#disk.discard!(offset, length));
      return;
    }
    const bytes = what === 'zero' ? new Uint8Array(length) : this.#newBytes(length);
    this.model.write(position, offset, bytes);
    const done = await this.#tolerate(() =>
      what === 'zero'
        ? this.#disk.writeZeroes!(offset, length, { unmap: this.#bench.random.oneIn(2) })
        : this.#disk.write(offset, bytes.slice()),
    );
    if (!done) return this.#doubt(offset, length);
    this.#mirror.set(bytes, offset);
    for (let at = offset; at < offset + length; at += SECTOR_BYTES) this.#uncertain.delete(at);
  }

  #doubt(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += SECTOR_BYTES) this.#uncertain.add(at);
  }

  /** What the guest reads now is what must be there after a flush that succeeds. */
  async #flush(): Promise<void> {
    const found = new Uint8Array(this.#mirror.length);
    if (!(await this.#tolerate(() => this.#disk.read(0, found)))) return;
    const position = this.#bench.position;
    const fault = this.#compare(found) ?? this.model.findFault(position, found);
    if (fault !== undefined) throw new Error(`the running guest is told wrong: ${fault}`);
    const done = await this.#tolerate(() => this.#disk.flush());
    if (!done) {
      this.#syncFailed ||= this.#bench.plan.fault?.call === 'flush';
      return;
    }
    if (this.#syncFailed) throw new Error('a flush succeeded after one had failed');
    this.#mirror.set(found);
    this.#uncertain.clear();
    this.model.flush(this.#bench.position, found);
  }

  #compare(found: Uint8Array): string | undefined {
    for (let at = 0; at < found.length; at += SECTOR_BYTES) {
      const end = at + SECTOR_BYTES;
      if (this.#uncertain.has(at)) continue;
      if (Buffer.compare(found.subarray(at, end), this.#mirror.subarray(at, end)) !== 0)
        return `guest offset 0x${at.toString(16)} does not read what was written last`;
    }
    return undefined;
  }

  /** With a fault planned, requests may fail: by a `Qcow2Error`. */
  async #tolerate(request: () => Promise<void>): Promise<boolean> {
    try {
      await request();
      return true;
    } catch (error) {
      if (this.#bench.plan.failures === 0 || !isQcow2Error(error)) throw error;
      this.#bench.rejections++;
      return false;
    }
  }

  /** Bytes no other request writes, and no sector twice. */
  #newBytes(length: number): Uint8Array {
    const words = new Uint32Array(length / 4);
    for (let i = 0; i < words.length; i++) words[i] = (++this.#written * 0x9e3779b1) >>> 0;
    return new Uint8Array(words.buffer);
  }
}
