import { Qcow2Error } from '../errors.ts';

const FRAME_MAGIC = 0xfd2fb528;
/** The last four bits are free (RFC 8878, section 3.1.2). */
const SKIPPABLE_MAGIC = 0x184d2a50;
const RESERVED_BLOCK = 3;
const RLE_BLOCK = 1;
/** Bytes of the dictionary id, by its flag. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
/** Bytes of the content size, by its flag, of a frame of several segments. */
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

/**
 * The frames among pieces of a zstd file, without those to be skipped. Node's own decoder takes what
 * ends early, or in other bytes, for whole, and stops at a frame that is to be skipped.
 * @throws Qcow2Error TRUNCATED, BAD_DATA
 */
export async function* wholeFrames(
  pieces: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array> {
  const walker = new FrameWalker(name);
  for await (const piece of pieces) yield* walker.walk(piece);
  walker.requireEnd();
}

/** Follows the structure of a zstd file (RFC 8878, section 3.1): magics, headers and block lengths. */
class FrameWalker {
  readonly #name: string;
  /** A header that is gathered, as far as it has come. */
  readonly #header = new Uint8Array(8);
  #gathered = 0;
  /** Bytes the header has that is gathered now, and what comes of it. */
  #wanted = 4;
  #then: () => void = () => this.#magic();
  /** The next header is that of a frame, if there is one. */
  #isBetween = false;
  /** Bytes still to pass before the next header. */
  #left = 0;
  #keeps = true;
  #hasChecksum = false;

  constructor(name: string) {
    this.#name = name;
  }

  *walk(piece: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < piece.length; ) {
      if (this.#left > 0) {
        const part = piece.subarray(at, at + this.#left);
        this.#left -= part.length;
        at += part.length;
        if (this.#keeps) yield part;
        continue;
      }
      const part = piece.subarray(at, at + this.#wanted - this.#gathered);
      this.#header.set(part, this.#gathered);
      this.#gathered += part.length;
      at += part.length;
      if (this.#gathered < this.#wanted) return;
      const header = this.#header.slice(0, this.#wanted);
      this.#gathered = 0;
      this.#then();
      if (this.#keeps) yield header;
    }
  }

  /** @throws Qcow2Error TRUNCATED: the file ends within a frame */
  requireEnd(): void {
    if (this.#isBetween && this.#left === 0 && this.#gathered === 0) return;
    const text = `Could not unpack '${this.#name}': its zstd data ends early; get a whole copy of it`;
    throw new Qcow2Error('TRUNCATED', text, { file: this.#name });
  }

  #expectFrame(): void {
    this.#expect(4, () => this.#magic());
    this.#isBetween = true;
  }

  #expect(wanted: number, then: () => void): void {
    this.#wanted = wanted;
    this.#then = then;
    this.#isBetween = false;
  }

  #word(): number {
    return new DataView(this.#header.buffer).getUint32(0, true);
  }

  #magic(): void {
    const magic = this.#word();
    const isSkippable = (magic & ~0xf) >>> 0 === SKIPPABLE_MAGIC;
    if (!isSkippable && magic !== FRAME_MAGIC)
      throw this.#damaged('no frame where one should begin');
    this.#keeps = !isSkippable;
    if (isSkippable) this.#expect(4, () => this.#skip());
    else this.#expect(1, () => this.#descriptor());
  }

  #skip(): void {
    this.#left = this.#word();
    this.#expectFrame();
  }

  #descriptor(): void {
    const [descriptor = 0] = this.#header;
    const isSingle = (descriptor & 0x20) !== 0;
    const sizeFlag = descriptor >> 6;
    this.#hasChecksum = (descriptor & 4) !== 0;
    const size = isSingle && sizeFlag === 0 ? 1 : CONTENT_SIZE_BYTES[sizeFlag as 0 | 1 | 2 | 3];
    this.#left = (isSingle ? 0 : 1) + DICTIONARY_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3] + size;
    this.#expect(3, () => this.#block());
  }

  #block(): void {
    const [low = 0, middle = 0, high = 0] = this.#header;
    const type = (low >> 1) & 3;
    if (type === RESERVED_BLOCK) throw this.#damaged('a block of a reserved type');
    const size = (low | (middle << 8) | (high << 16)) >> 3;
    this.#left = type === RLE_BLOCK ? 1 : size;
    if ((low & 1) === 0) return;
    if (this.#hasChecksum) this.#left += 4;
    this.#expectFrame();
  }

  #damaged(what: string): Qcow2Error {
    const text = `Could not unpack '${this.#name}': its zstd data is damaged (${what})`;
    return new Qcow2Error('BAD_DATA', text, { file: this.#name });
  }
}
