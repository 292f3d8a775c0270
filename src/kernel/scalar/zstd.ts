import {
  ZSTD_CHECKSUM,
  ZSTD_INVALID,
  ZSTD_LONG,
  ZSTD_OK,
  ZSTD_SHORT,
  ZSTD_TRUNCATED,
  ZSTD_UNSUPPORTED,
} from '../abi.ts';
import { xxh64 } from './xxh64.ts';
import { ByteReader, ZstdStop } from './zstd-bits.ts';
import { HuffmanCode } from './zstd-huffman.ts';
import { type Sequence, SequenceReader } from './zstd-sequences.ts';

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const BLOCK_MAX = 128 * 1024;
const WINDOW_MAX = 128 * 1024 * 1024;

const RAW = 0;
const RLE = 1;
const COMPRESSED = 2;
const RESERVED = 3;

/** A data frame (RFC 8878, 3.1.1) while it is decoded. */
class Frame {
  readonly #bytes: ByteReader;
  readonly #u8: Uint8Array;
  readonly #start: number;
  #output: number;
  /** Where the content ends or, if the header does not tell, where the room for it does. */
  #end: number;
  #blockMax = BLOCK_MAX;
  /** Status for too much content. */
  #tooLong = ZSTD_INVALID;
  #isSized = false;
  #hasChecksum = false;
  readonly #sequences = new SequenceReader();
  #huffman: HuffmanCode | undefined;
  #distances = [1, 4, 8];

  /** @param bytes the input behind the frame's magic number */
  constructor(bytes: ByteReader, output: number, outputEnd: number) {
    this.#bytes = bytes;
    this.#u8 = bytes.u8;
    this.#start = output;
    this.#output = output;
    this.#end = outputEnd;
  }

  /** Decodes the frame; returns where its content ends. */
  decode(): number {
    this.#readHeader();
    for (let isLast = false; !isLast; ) {
      const header = this.#bytes.number(3);
      isLast = (header & 1) === 1;
      this.#readBlock((header >> 1) & 3, header >> 3);
    }
    if (this.#isSized && this.#output !== this.#end) throw new ZstdStop(ZSTD_INVALID);
    if (this.#hasChecksum) {
      const content = this.#u8.subarray(this.#start, this.#output);
      const checksum = this.#bytes.number(4);
      if (Number(xxh64(content) & 0xffffffffn) !== checksum) throw new ZstdStop(ZSTD_CHECKSUM);
    }
    return this.#output;
  }

  #readHeader(): void {
    const descriptor = this.#bytes.number(1);
    const isSingleSegment = (descriptor & 0x20) !== 0;
    this.#hasChecksum = (descriptor & 0x04) !== 0;
    const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
    const window = isSingleSegment ? 0 : this.#bytes.number(1);
    const dictionary = this.#bytes.number(dictionaryBytes);
    const size = this.#bytes.number(sizeBytes) + (sizeBytes === 2 ? 256 : 0);
    if (descriptor & 0x08) throw new ZstdStop(ZSTD_INVALID);
    if (dictionary !== 0) throw new ZstdStop(ZSTD_UNSUPPORTED);
    if (sizeBytes > 0) {
      if (size > this.#end - this.#output) throw new ZstdStop(ZSTD_LONG);
      this.#isSized = true;
      this.#end = this.#output + size;
      return;
    }
    const windowSize = 2 ** (10 + (window >> 3)) * (1 + (window & 7) / 8);
    if (windowSize > WINDOW_MAX) throw new ZstdStop(ZSTD_UNSUPPORTED);
    this.#blockMax = Math.min(BLOCK_MAX, windowSize);
    this.#tooLong = ZSTD_LONG;
  }

  #readBlock(type: number, size: number): void {
    if (type === RESERVED || size > this.#blockMax) throw new ZstdStop(ZSTD_INVALID);
    const start = this.#bytes.skip(type === RLE ? 1 : size);
    if (type === COMPRESSED) {
      const end = start + size;
      this.#readCompressed(new ByteReader(this.#u8, start, end, ZSTD_INVALID));
      return;
    }
    if (size > this.#end - this.#output) throw new ZstdStop(this.#tooLong);
    if (type === RAW) this.#u8.copyWithin(this.#output, start, start + size);
    else this.#u8.fill(this.#u8[start] as number, this.#output, this.#output + size);
    this.#output += size;
  }

  #readCompressed(block: ByteReader): void {
    const room = Math.min(this.#blockMax, this.#end - this.#output);
    const tooLong = room === this.#blockMax ? ZSTD_INVALID : this.#tooLong;
    const literals = this.#readLiterals(block);
    if (literals.length > room) throw new ZstdStop(tooLong);
    const end = this.#output + room;
    let used = 0;
    for (const sequence of this.#sequences.read(block)) {
      const distance = this.#distanceOf(sequence);
      const matchAt = this.#output + sequence.literals;
      const isInvalid =
        distance === 0 ||
        distance > matchAt - this.#start ||
        sequence.literals > literals.length - used;
      if (isInvalid) throw new ZstdStop(ZSTD_INVALID);
      if (matchAt + sequence.match > end) throw new ZstdStop(tooLong);
      this.#u8.set(literals.subarray(used, used + sequence.literals), this.#output);
      used += sequence.literals;
      this.#output = matchAt + sequence.match;
      for (let i = matchAt; i < this.#output; i++) this.#u8[i] = this.#u8[i - distance] as number;
    }
    if (literals.length - used > end - this.#output) throw new ZstdStop(tooLong);
    this.#u8.set(literals.subarray(used), this.#output);
    this.#output += literals.length - used;
  }

  /** Reads a literals section (RFC 8878, 3.1.1.3.1) and steps over it. */
  #readLiterals(block: ByteReader): Uint8Array {
    const first = block.number(1);
    const type = first & 3;
    const format = (first >> 2) & 3;
    if (type === RAW || type === RLE) {
      const more = format === 1 ? 1 : format === 3 ? 2 : 0;
      const size = more === 0 ? first >> 3 : (first >> 4) + block.number(more) * 16;
      if (type === RAW) {
        const start = block.skip(size);
        return this.#u8.slice(start, start + size);
      }
      const value = block.number(1);
      if (size > BLOCK_MAX) throw new ZstdStop(ZSTD_INVALID);
      return new Uint8Array(size).fill(value);
    }
    const sizeBits = [10, 10, 14, 18][format] as number;
    const sizes = (first >> 4) + block.number([2, 2, 3, 4][format] as number) * 16;
    const size = sizes % 2 ** sizeBits;
    if (size > BLOCK_MAX) throw new ZstdStop(ZSTD_INVALID);
    const streams = block.part(Math.floor(sizes / 2 ** sizeBits));
    if (type === COMPRESSED) this.#huffman = new HuffmanCode(streams);
    if (this.#huffman === undefined) throw new ZstdStop(ZSTD_INVALID);
    const literals = new Uint8Array(size);
    if (format === 0) this.#huffman.decode(streams, literals);
    else this.#huffman.decodeFour(streams, literals);
    return literals;
  }

  /** The distance of a sequence, which becomes the first of the last three (RFC 8878, 3.1.1.5). */
  #distanceOf({ literals, offset }: Sequence): number {
    const [first, second, third] = this.#distances as [number, number, number];
    if (offset > 3) {
      this.#distances = [offset - 3, first, second];
      return offset - 3;
    }
    // Without literals the first is not among the choices, but the first less 1 is.
    switch (literals === 0 ? offset : offset - 1) {
      case 0:
        return first;
      case 1:
        this.#distances = [second, first, third];
        return second;
      case 2:
        this.#distances = [third, first, second];
        return third;
      default:
        this.#distances = [first - 1, first, second];
        return first - 1;
    }
  }
}

/** Twin of `zstd_decompress`. */
export function zstdDecompress(
  u8: Uint8Array,
  src: number,
  srcLength: number,
  out: number,
  outLength: number,
): number {
  const bytes = new ByteReader(u8, src, src + srcLength, ZSTD_TRUNCATED);
  let output = out;
  const end = out + outLength;
  try {
    while (output < end) {
      if (bytes.left === 0) return ZSTD_SHORT;
      const magic = bytes.number(4);
      if (magic === MAGIC) output = new Frame(bytes, output, end).decode();
      else if (Math.floor(magic / 16) === SKIPPABLE_MAGIC / 16) bytes.skip(bytes.number(4));
      else return ZSTD_INVALID;
    }
    return ZSTD_OK;
  } catch (stop) {
    if (stop instanceof ZstdStop) return stop.status;
    throw stop;
  }
}
