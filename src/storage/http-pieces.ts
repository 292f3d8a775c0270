/** Bytes of a file that were fetched, or are being. */
export interface Piece {
  /** The range `[start, end)` of the file. */
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  /** Settles when the bytes are here; undefined afterwards. */
  loading: Promise<void> | undefined;
  /** Reads that wait for it. */
  waiting: number;
  /** Fetched ahead and not read yet. */
  isFresh: boolean;
}

/** Buffers have one of few lengths, so that the next piece can use them again. */
const LEAST_BYTES = 64 * 1024;
/** Buffers kept for later. */
const MOST_SPARE = 4;

/** Pieces of a file in a limited amount of memory, the least recently used go first. */
export class PieceCache {
  readonly #most: number;
  readonly #fill: (offset: number, into: Uint8Array) => Promise<void>;
  /** In order of use. */
  readonly #pieces = new Set<Piece>();
  #held = 0;
  readonly #spare: ArrayBuffer[] = [];

  /** @param most bytes of pieces at a time */
  constructor(most: number, fill: (offset: number, into: Uint8Array) => Promise<void>) {
    this.#most = most;
    this.#fill = fill;
  }

  /** The piece that has the byte at `offset`. */
  find(offset: number): Piece | undefined {
    for (const piece of this.#pieces) if (offset >= piece.start && offset < piece.end) return piece;
    return undefined;
  }

  /** Where the next piece behind `offset` begins; Infinity if there is none. */
  nextStart(offset: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { start } of this.#pieces) if (start > offset && start < next) next = start;
    return next;
  }

  /** Where the last piece before `offset` ends; 0 if there is none. */
  lastEnd(offset: number): number {
    let last = 0;
    for (const { end } of this.#pieces) if (end <= offset && end > last) last = end;
    return last;
  }

  /** Copies what is here from `offset` on without a gap; returns where that ends. */
  copy(offset: number, into: Uint8Array): number {
    let at = offset;
    while (at < offset + into.length) {
      const piece = this.find(at);
      if (piece === undefined || piece.loading !== undefined) break;
      at += this.#take(piece, at, into.subarray(at - offset));
    }
    return at;
  }

  /** Copies from a piece once it is here. */
  async copyLoaded(piece: Piece, offset: number, into: Uint8Array): Promise<void> {
    piece.waiting++;
    try {
      await piece.loading;
    } finally {
      piece.waiting--;
    }
    this.#take(piece, offset, into);
  }

  /** Keeps bytes that are here already, if there is room. */
  put(start: number, bytes: Uint8Array): void {
    if (bytes.length === 0 || !this.#makeRoom(bytes.buffer.byteLength, false)) return;
    this.#add({ start, bytes, loading: undefined, isFresh: false });
  }

  /** Begins to fetch a range that no piece has; undefined if there is no room. */
  load(start: number, end: number, isAhead: boolean): Piece | undefined {
    const length = end - start;
    if (!this.#makeRoom(bufferBytes(length), isAhead)) return undefined;
    const bytes = new Uint8Array(this.#buffer(length), 0, length);
    const loading = this.#fill(start, bytes);
    const piece = this.#add({ start, bytes, loading, isFresh: isAhead });
    loading.then(
      () => {
        piece.loading = undefined;
      },
      // Who waits for it is told; who comes later tries again.
      () => this.#drop(piece, false),
    );
    return piece;
  }

  #add(part: Pick<Piece, 'start' | 'bytes' | 'loading' | 'isFresh'>): Piece {
    const piece = { ...part, end: part.start + part.bytes.length, waiting: 0 };
    this.#pieces.add(piece);
    this.#held += piece.bytes.buffer.byteLength;
    return piece;
  }

  /** Copies from a piece that is here; returns how much. */
  #take(piece: Piece, offset: number, into: Uint8Array): number {
    const { start, end, bytes } = piece;
    const length = Math.min(end - offset, into.length);
    into.set(bytes.subarray(offset - start, offset - start + length));
    piece.isFresh = false;
    if (this.#pieces.delete(piece)) this.#pieces.add(piece);
    return length;
  }

  /** What was fetched ahead and is still to be read gives way to reading only. */
  #makeRoom(length: number, isAhead: boolean): boolean {
    for (const piece of this.#pieces) {
      if (this.#held + length <= this.#most) return true;
      if (piece.loading !== undefined || piece.waiting > 0 || (isAhead && piece.isFresh)) continue;
      this.#drop(piece, true);
    }
    return this.#held + length <= this.#most;
  }

  #drop(piece: Piece, isLoaded: boolean): void {
    if (!this.#pieces.delete(piece)) return;
    this.#held -= piece.bytes.buffer.byteLength;
    // A request that failed may not have ended with its last byte.
    if (isLoaded && this.#spare.length < MOST_SPARE)
      this.#spare.push(piece.bytes.buffer as ArrayBuffer);
  }

  #buffer(length: number): ArrayBuffer {
    const whole = bufferBytes(length);
    const index = this.#spare.findIndex(
      ({ byteLength }) => byteLength >= whole && byteLength <= 4 * whole,
    );
    const [found] = index < 0 ? [] : this.#spare.splice(index, 1);
    return found ?? new ArrayBuffer(whole);
  }
}

/** Of the buffer for a piece. */
function bufferBytes(length: number): number {
  return Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(length)));
}
