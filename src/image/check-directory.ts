import { PIECE_ENTRY_BYTES } from '../kernel/abi.ts';
import type { Kernel } from '../kernel/kernel.ts';

/** Pieces the directory has at most: 8 MiB, the 16 TiB of a file of default clusters and counters. */
const MAX_PIECES = 2 ** 20;
const WORDS = PIECE_ENTRY_BYTES / 4;

/**
 * Where the pieces of counters lie in kernel memory, for the kernel to find them: those of references,
 * and those stored that are in memory at the time. Pieces further on it does not know.
 */
export class PieceDirectory {
  /** Address of the first entry. */
  readonly pointer: number;
  /** Pieces it knows. */
  readonly pieces: number;
  readonly #kernel: Kernel;

  /** @param pieces of the file's clusters */
  constructor(kernel: Kernel, pieces: number) {
    this.#kernel = kernel;
    this.pieces = Math.min(pieces, MAX_PIECES);
    const region = kernel.arena.allocate(this.pieces * PIECE_ENTRY_BYTES);
    region.bytes.fill(0);
    this.pointer = region.ptr;
  }

  /** Tells where references to the clusters of a piece are. */
  setReferences(piece: number, pointer: number): void {
    if (piece < this.pieces) this.#kernel.arena.u32[this.pointer / 4 + piece * WORDS] = pointer;
  }

  /** Tells where the stored counters of a piece are; 0: nowhere. */
  setStored(piece: number, pointer: number): void {
    if (piece < this.pieces) this.#kernel.arena.u32[this.pointer / 4 + piece * WORDS + 1] = pointer;
  }
}
