import { Arena, type Region } from './arena.ts';
import type { KernelExports } from './exports.ts';
import { bestBackend, type KernelBackend, loadExports } from './load.ts';

export type { KernelBackend } from './load.ts';

/** Bytes copied at a time to test memory that is not the kernel's. */
const SCRATCH_BYTES = 65536;

/** One instance of the kernels with its memory. Not shared between threads: each makes its own. */
export class Kernel {
  readonly backend: KernelBackend;
  /** @internal */
  readonly exports: KernelExports;
  /** @internal */
  readonly arena: Arena;
  #scratch: Region | undefined;

  /** @internal */
  constructor(backend: KernelBackend, exports: KernelExports) {
    this.backend = backend;
    this.exports = exports;
    this.arena = new Arena(exports.memory, exports.heap_base());
  }

  /** Takes all memory back; images that use the kernel must be closed. */
  reset(): void {
    this.#scratch = undefined;
    this.arena.reset();
  }

  /**
   * Whether all bytes are zero: of a view (of any memory), or of `length` bytes at an address.
   * @internal
   */
  isZero(view: Uint8Array): boolean;
  /** @internal */
  isZero(ptr: number, length: number): boolean;
  isZero(target: Uint8Array | number, length = 0): boolean {
    if (typeof target === 'number') return this.exports.zero_range(target, length) === 1;
    if (this.arena.contains(target)) {
      return this.exports.zero_range(target.byteOffset, target.length) === 1;
    }
    this.#scratch ??= this.arena.allocate(SCRATCH_BYTES);
    for (let at = 0; at < target.length; at += SCRATCH_BYTES) {
      const part = target.subarray(at, at + SCRATCH_BYTES);
      this.#scratch.bytes.set(part);
      if (this.exports.zero_range(this.#scratch.ptr, part.length) === 0) return false;
    }
    return true;
  }
}

/**
 * Makes a kernel, synchronously. Without a choice the fastest backend the engine has is used.
 * @throws Qcow2Error UNSUPPORTED: the engine cannot run the chosen backend
 * @example
 * import { createKernel, openImage } from 'qcow2';
 *
 * const kernel = createKernel({ backend: 'js' }); // no WebAssembly at all
 * const image = await openImage('disk.qcow2', { kernel });
 * await image.close();
 */
export function createKernel(options: { backend?: KernelBackend } = {}): Kernel {
  const backend = options.backend ?? bestBackend();
  return new Kernel(backend, loadExports(backend));
}
