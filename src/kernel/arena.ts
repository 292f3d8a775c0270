import { Qcow2Error } from '../errors.ts';
import { INFLATE_OUTPUT_SLACK } from './abi.ts';
import type { KernelExports } from './exports.ts';

const PAGE_BYTES = 65536;
const ALIGNMENT = 16;
/** Pointers are u32, and the last page stays unused so that none overflows. */
const LIMIT_BYTES = 2 ** 32 - PAGE_BYTES;

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

/**
 * A range of kernel memory, 16-byte aligned, with 320 bytes behind it that kernels may read and
 * scribble on.
 */
export class Region {
  /** Address in kernel memory. */
  readonly ptr: number;
  /** Length in bytes. */
  readonly length: number;
  readonly #arena: Arena;
  #bytes: Uint8Array;

  constructor(arena: Arena, ptr: number, length: number) {
    this.ptr = ptr;
    this.length = length;
    this.#arena = arena;
    this.#bytes = arena.u8.subarray(ptr, ptr + length);
  }

  /** View of the region. Take it anew after any `allocate`: growth detaches older views. */
  get bytes(): Uint8Array {
    if (this.#bytes.buffer !== this.#arena.u8.buffer) {
      this.#bytes = this.#arena.u8.subarray(this.ptr, this.ptr + this.length);
    }
    return this.#bytes;
  }
}

/**
 * Sole owner of a kernel's memory: hands out regions, grows the memory, and keeps the views of all
 * of it. Never allocate while a read into a region is in flight: growth detaches its view.
 */
export class Arena {
  readonly #memory: KernelExports['memory'];
  /** Regions given back, by their length with slack. */
  readonly #free = new Map<number, number[]>();
  readonly #taken = new Set<Region>();
  readonly #base: number;
  #next: number;
  #u8!: Uint8Array;
  #u32!: Uint32Array;
  #f64!: Float64Array;

  /** @param base first address that is not the kernel's own */
  constructor(memory: KernelExports['memory'], base: number) {
    this.#memory = memory;
    this.#base = this.#next = align(base);
    this.#refresh();
  }

  /** All of the memory, as bytes. Like the next two, replaced when `allocate` grows it. */
  get u8(): Uint8Array {
    return this.#u8;
  }

  /** All of the memory, as little-endian u32 (index = address / 4). */
  get u32(): Uint32Array {
    return this.#u32;
  }

  /** All of the memory, as doubles (index = address / 8). */
  get f64(): Float64Array {
    return this.#f64;
  }

  /**
   * Reserves `length` bytes; their contents are undefined.
   * @throws Qcow2Error INVALID_ARGUMENT: `length` is no length; TOO_LARGE: no memory is left
   */
  allocate(length: number): Region {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new Qcow2Error(
        'INVALID_ARGUMENT',
        `kernel region length ${length} is not a whole number of bytes: pass one from 0 on`,
        { value: length },
      );
    }
    const whole = align(length + INFLATE_OUTPUT_SLACK);
    let ptr = this.#free.get(whole)?.pop();
    if (ptr === undefined) {
      ptr = this.#next;
      this.#ensure(ptr + whole);
      this.#next = ptr + whole;
    }
    const region = new Region(this, ptr, length);
    this.#taken.add(region);
    return region;
  }

  /**
   * Grows the memory now, so that regions of `length` bytes together can be taken later without growth.
   * @throws Qcow2Error TOO_LARGE: no memory is left
   */
  reserve(length: number): void {
    this.#ensure(this.#next + length);
  }

  /**
   * Gives a region back; a later `allocate` of the same size uses it again.
   * @throws Qcow2Error INVALID_ARGUMENT: not a region of this arena, or already given back
   */
  release(region: Region): void {
    if (!this.#taken.delete(region)) {
      throw new Qcow2Error(
        'INVALID_ARGUMENT',
        `kernel region at ${region.ptr} is not taken in this arena: release each region once`,
        { value: region.ptr },
      );
    }
    const whole = align(region.length + INFLATE_OUTPUT_SLACK);
    const list = this.#free.get(whole);
    if (list) list.push(region.ptr);
    else this.#free.set(whole, [region.ptr]);
  }

  /** Whether `region` was taken here and is not given back. */
  holds(region: Region): boolean {
    return this.#taken.has(region);
  }

  /** Takes all regions back; whatever used them must be gone. The memory stays, ready to be used. */
  reset(): void {
    this.#free.clear();
    this.#taken.clear();
    this.#next = this.#base;
  }

  /** `region` if it has `length` bytes, else a larger one in its place. Like `allocate`, may grow. */
  fit(region: Region | undefined, length: number): Region {
    if (region !== undefined && region.length >= length) return region;
    const larger = this.allocate(length);
    if (region !== undefined) this.release(region);
    return larger;
  }

  /** Whether `view` lies in this memory (and was not detached by growth). */
  contains(view: Uint8Array): boolean {
    return view.buffer === this.#u8.buffer;
  }

  /**
   * Address of the first byte of `view`.
   * @throws Qcow2Error INVALID_ARGUMENT: `view` does not lie in this memory
   */
  pointer(view: Uint8Array): number {
    if (!this.contains(view)) {
      throw new Qcow2Error(
        'INVALID_ARGUMENT',
        `a view of ${view.length} bytes lies outside kernel memory: use the bytes of a region, taken anew after growth`,
        { value: view.length },
      );
    }
    return view.byteOffset;
  }

  #ensure(end: number): void {
    const missing = end - this.#u8.length;
    if (missing <= 0) return;
    try {
      if (end > LIMIT_BYTES) throw new RangeError(`the limit is ${LIMIT_BYTES} bytes`);
      this.#memory.grow(Math.ceil(missing / PAGE_BYTES));
    } catch (cause) {
      throw new Qcow2Error(
        'TOO_LARGE',
        `kernel memory cannot grow to ${end} bytes: use smaller buffers or release some`,
        { value: end },
        { cause },
      );
    }
    this.#refresh();
  }

  #refresh(): void {
    const { buffer } = this.#memory;
    this.#u8 = new Uint8Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    this.#f64 = new Float64Array(buffer);
  }
}
