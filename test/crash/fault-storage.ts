import { Qcow2Error } from '../../src/errors.ts';
import type { Extent, MaybePromise, Storage } from '../../src/storage/storage.ts';

/** Calls that can be made to fail. */
export type FaultyCall = 'write' | 'flush' | 'truncate' | 'punchHole' | 'allocate';

/** Which call fails, and how. */
export interface Fault {
  readonly call: FaultyCall;
  /** The nth of these calls, from 1 on; over all storages that share the plan. */
  readonly nth: number;
  readonly errno: 'ENOSPC' | 'EIO';
  /** All later calls of the kind fail too: a disk that stays full. Default: only this one. */
  readonly stays?: boolean;
  /** A write that fails has written its first half. */
  readonly half?: boolean;
}

/** Counts the calls to storages and makes one of them fail. */
export class FaultPlan {
  readonly counts: Record<FaultyCall, number> = {
    write: 0,
    flush: 0,
    truncate: 0,
    punchHole: 0,
    allocate: 0,
  };
  readonly fault: Fault | undefined;
  /** Calls that failed. */
  failures = 0;

  constructor(fault?: Fault) {
    this.fault = fault;
  }

  /** Counts a call, and tells whether it fails. */
  fails(call: FaultyCall): boolean {
    const count = ++this.counts[call];
    const { fault } = this;
    if (fault?.call !== call) return false;
    if (!(fault.stays ? count >= fault.nth : count === fault.nth)) return false;
    this.failures++;
    return true;
  }
}

/** Passes every call on but the one a plan makes fail, with the error a file would give. */
export class FaultStorage implements Storage {
  readonly name: string;
  readonly #inner: Storage;
  readonly #plan: FaultPlan;

  constructor(inner: Storage, plan: FaultPlan) {
    this.name = inner.name ?? 'storage';
    this.#inner = inner;
    this.#plan = plan;
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, into: Uint8Array): MaybePromise<number> {
    return this.#inner.read(offset, into);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (!this.#plan.fails('write')) return this.#inner.write!(offset, from);
    if (this.#plan.fault?.half) {
      await this.#inner.write!(offset, from.subarray(0, Math.floor(from.length / 1024) * 512));
    }
    throw this.#error('write');
  }

  async truncate(size: number): Promise<void> {
    if (this.#plan.fails('truncate')) throw this.#error('truncate');
    return this.#inner.truncate!(size);
  }

  async flush(): Promise<void> {
    if (this.#plan.fails('flush')) throw this.#error('flush');
    return this.#inner.flush!();
  }

  async punchHole(offset: number, length: number): Promise<void> {
    if (this.#plan.fails('punchHole')) throw this.#error('punchHole');
    return this.#inner.punchHole!(offset, length);
  }

  async allocate(offset: number, length: number): Promise<void> {
    if (this.#plan.fails('allocate')) throw this.#error('allocate');
    return this.#inner.allocate!(offset, length);
  }

  extents(offset: number, length: number): MaybePromise<Extent[]> {
    return this.#inner.extents?.(offset, length) ?? [{ offset, length, data: true }];
  }

  close(): MaybePromise<void> {
    return this.#inner.close();
  }

  #error(call: string): Qcow2Error {
    const { errno } = this.#plan.fault!;
    const text = `Could not ${call} '${this.name}': ${errno}`;
    return new Qcow2Error('IO', text, { file: this.name, errno });
  }
}
