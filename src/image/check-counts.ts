import { PIECE_SHIFT } from '../kernel/abi.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { PieceDirectory } from './check-directory.ts';

/** Bytes of counters held together: the smallest cluster, hence a part of every refcount block. */
export const PIECE_BYTES = 2 ** PIECE_SHIFT / 8;
const SLAB_BYTES = 512 * PIECE_BYTES;
const TWO_32 = 2 ** 32;

/** Reads and writes counters in the packed form of the disk, in kernel memory. */
export class CounterAccess {
  readonly order: number;
  /** Counters of one piece. */
  readonly perPiece: number;
  /** log2 of that. */
  readonly pieceShift: number;
  readonly kernel: Kernel;
  readonly #scratch: number;

  /** @param order log2 of the counter's width in bits */
  constructor(kernel: Kernel, order: number) {
    this.kernel = kernel;
    this.order = order;
    this.pieceShift = PIECE_SHIFT - order;
    this.perPiece = 2 ** this.pieceShift;
    this.#scratch = kernel.arena.allocate(this.perPiece * 8).ptr;
  }

  /** Counter `index` of the piece at `pointer`. */
  get(pointer: number, index: number): number {
    this.kernel.exports.refcount_unpack(pointer, this.order, index, 1, this.#scratch);
    return this.#unpacked(0);
  }

  /** Calls back for each of `count` counters from `first` on that has the value 1. */
  eachOne(pointer: number, first: number, count: number, found: (index: number) => void): void {
    this.kernel.exports.refcount_unpack(pointer, this.order, first, count, this.#scratch);
    for (let i = 0; i < count; i++) if (this.#unpacked(i) === 1) found(first + i);
  }

  /** Sets one counter to a value that fits it. */
  set(pointer: number, index: number, value: number): void {
    this.kernel.exports.refcount_fill(pointer, this.order, index, 1, value);
  }

  #unpacked(i: number): number {
    const { u32 } = this.kernel.arena;
    const at = this.#scratch / 4 + i * 2;
    return u32[at]! + u32[at + 1]! * TWO_32;
  }
}

/**
 * References found, by host cluster: counters as the disk packs them, in pieces made when a cluster
 * in them is first referenced. Memory follows the references, not the length of the file.
 */
export class ReferenceCounts {
  readonly access: CounterAccess;
  /** Highest cluster referenced; -1: none. */
  highest = -1;
  /** Most a counter holds. */
  readonly maximum: number;
  readonly #pieces = new Map<number, number>();
  readonly #directory: PieceDirectory;
  readonly #overflow: (cluster: number, times: number) => void;
  #slab = 0;
  #slabEnd = 0;
  #lastPiece = -1;
  #lastPointer = 0;

  /**
   * @param directory told of the pieces that are made
   * @param overflow told of references that a counter of this width cannot hold
   */
  constructor(
    access: CounterAccess,
    directory: PieceDirectory,
    overflow: (cluster: number, times: number) => void,
  ) {
    this.access = access;
    this.#directory = directory;
    this.maximum = 2 ** (2 ** access.order) - 1;
    this.#overflow = overflow;
  }

  /** Adds `times` references to each of `count` clusters. */
  add(first: number, count: number, times: number): void {
    if (times === 0 || count === 0) return;
    const { perPiece, pieceShift, kernel, order } = this.access;
    this.highest = Math.max(this.highest, first + count - 1);
    for (let cluster = first; cluster < first + count; ) {
      // Clusters that are counted have numbers below 2^31: whole numbers cost no allocation.
      const piece = cluster >>> pieceShift;
      const index = cluster & (perPiece - 1);
      const n = Math.min(first + count - cluster, perPiece - index);
      const pointer = this.#touch(piece);
      if (kernel.exports.refcount_add(pointer, order, index, n, times) >= 0) {
        this.#addSaturating(pointer, cluster, index, n, times);
      }
      cluster += n;
    }
  }

  /** References up to this cluster were added by the kernel, to pieces that are there. */
  noteHighest(cluster: number): void {
    this.highest = Math.max(this.highest, cluster);
  }

  /** References of one cluster. */
  get(cluster: number): number {
    const piece = Math.floor(cluster / this.access.perPiece);
    const pointer = this.#pieces.get(piece);
    if (pointer === undefined) return 0;
    return this.access.get(pointer, cluster - piece * this.access.perPiece);
  }

  /** Pointer to a piece; 0 if nothing in it is referenced. */
  pointer(piece: number): number {
    return this.#pieces.get(piece) ?? 0;
  }

  /** Pieces with references, ascending. */
  pieces(): Float64Array {
    return Float64Array.from(this.#pieces.keys()).sort();
  }

  #addSaturating(pointer: number, cluster: number, index: number, n: number, times: number): void {
    for (let i = 0; i < n; i++) {
      const sum = this.access.get(pointer, index + i) + times;
      this.access.set(pointer, index + i, Math.min(sum, this.maximum));
      if (sum > this.maximum) this.#overflow(cluster + i, sum - this.maximum);
    }
  }

  #touch(piece: number): number {
    if (piece === this.#lastPiece) return this.#lastPointer;
    const pointer = this.#pieces.get(piece) ?? this.#make(piece);
    this.#lastPiece = piece;
    this.#lastPointer = pointer;
    return pointer;
  }

  #make(piece: number): number {
    if (this.#slab === this.#slabEnd) {
      const region = this.access.kernel.arena.allocate(SLAB_BYTES);
      region.bytes.fill(0);
      this.#slab = region.ptr;
      this.#slabEnd = region.ptr + SLAB_BYTES;
    }
    const pointer = this.#slab;
    this.#slab += PIECE_BYTES;
    this.#pieces.set(piece, pointer);
    this.#directory.setReferences(piece, pointer);
    return pointer;
  }
}
