import { inflateRawSync } from 'node:zlib';
import type { Codec } from '../../src/codecs/codec.ts';
import type { DeflateLevel } from '../../src/codecs/deflate.ts';
import { loadCodec } from '../../src/codecs/load.ts';
import type { Region } from '../../src/kernel/arena.ts';
import { loadScalar, loadTarget, type TestKernel } from '../kernel/backends.ts';
import { contents } from '../kernel/zstd-support.ts';
import type { CodecFuzzOptions, CodecName, EncoderFailure } from './codec-report.ts';
import { type NativeDecoder, NativeInflate, NativeZstd } from './native-codecs.ts';
import { Random } from './random.ts';

const LEVELS: readonly DeflateLevel[] = ['fast', 'default', 'best'];
const MAX_PLAIN = 65_536;
/** More than any encoder adds to bytes that do not shrink. */
const OVERHEAD = 1024;
const GUARD = 1024;
const PATTERN = new Uint8Array(GUARD).fill(0xc3);
/** Our window of deflate in bits: readers need no more. */
const WINDOW_BITS = 12;

/** An encoder that works between guards in kernel memory. */
class GuardedEncoder {
  readonly #codec: Codec;
  readonly #input: Region;
  readonly #output: Region;
  readonly #back: Region;

  private constructor(kernel: TestKernel, codec: Codec) {
    this.#codec = codec;
    this.#input = kernel.arena.allocate(MAX_PLAIN);
    this.#output = kernel.arena.allocate(GUARD + MAX_PLAIN + OVERHEAD + GUARD);
    this.#back = kernel.arena.allocate(MAX_PLAIN);
  }

  static async load(kernel: TestKernel, codec: CodecName, level: DeflateLevel) {
    const type = codec === 'zstd' ? 1 : 0;
    return new GuardedEncoder(kernel, await loadCodec(type, kernel, { compress: true, level }));
  }

  /** The stream, a view of kernel memory, or undefined where it does not fit. */
  encode(plain: Uint8Array, capacity: number): Uint8Array | undefined {
    const output = this.#output.bytes;
    output.fill(0xc3, 0, GUARD + capacity + GUARD);
    this.#input.bytes.set(plain);
    const input = this.#input.bytes.subarray(0, plain.length);
    const length = this.#codec.compress(input, output.subarray(GUARD, GUARD + capacity));
    const isIntact =
      Buffer.compare(output.subarray(0, GUARD), PATTERN) === 0 &&
      Buffer.compare(output.subarray(GUARD + capacity, GUARD + capacity + GUARD), PATTERN) === 0;
    if (!isIntact) throw new Error('bytes outside the output were changed');
    if (Buffer.compare(input, plain) !== 0) throw new Error('the input was changed');
    return length < 0 ? undefined : output.subarray(GUARD, GUARD + length);
  }

  /** What our decoder makes of a stream. */
  decode(stream: Uint8Array, length: number): Uint8Array {
    const back = this.#back.bytes.subarray(0, length);
    this.#codec.decompress(stream, back);
    return back;
  }
}

/** Encodes clusters made at random, and decodes them with our decoder and qemu-img's library. */
export class EncoderFuzzer {
  readonly codec: CodecName;
  readonly #materials = contents(MAX_PLAIN);
  readonly #oracle: NativeDecoder;
  /** By level: the fastest backend, and the others, which must make the same. */
  readonly #encoders: readonly (readonly GuardedEncoder[])[];

  private constructor(codec: CodecName, encoders: readonly (readonly GuardedEncoder[])[]) {
    this.codec = codec;
    this.#encoders = encoders;
    this.#oracle = codec === 'zstd' ? new NativeZstd() : new NativeInflate();
  }

  static async load(codec: CodecName): Promise<EncoderFuzzer> {
    const kernels = [loadTarget('release-simd'), loadTarget('release-scalar'), loadScalar()];
    const levels = codec === 'zstd' ? LEVELS.slice(1, 2) : LEVELS;
    const encoders = levels.map((level) =>
      Promise.all(kernels.map((kernel) => GuardedEncoder.load(kernel, codec, level))),
    );
    return new EncoderFuzzer(codec, await Promise.all(encoders));
  }

  /** Encodes and decodes until a rule is broken. */
  fuzz({ seed, firstRun, runs, onProgress }: CodecFuzzOptions): {
    failure: EncoderFailure | undefined;
    counts: { packed: number; unfit: number };
  } {
    const counts = { packed: 0, unfit: 0 };
    for (let run = firstRun; run < firstRun + runs; run++) {
      const random = new Random(seed, run);
      const plain = this.#plainOf(random);
      try {
        counts[this.#examine(plain, random, run)]++;
      } catch (error) {
        return { failure: { codec: this.codec, seed, run, plain, error }, counts };
      }
      if (run % 1000 === 0) onProgress?.(run);
    }
    return { failure: undefined, counts };
  }

  /** Pieces of this and that, some of them again and again, with single bytes changed. */
  #plainOf(random: Random): Uint8Array {
    const length = 1 + random.below(random.oneIn(16) ? MAX_PLAIN : random.pick([40, 600, 5000]));
    const plain = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const isAgain = at > 0 && random.oneIn(2);
      const from = isAgain ? plain.subarray(0, at) : random.pick(this.#materials);
      const start = random.below(from.length);
      const piece = from.subarray(start, start + 1 + random.below(length));
      plain.set(piece.subarray(0, length - at), at);
      at += piece.length;
    }
    for (let changes = random.below(6); changes > 0; changes--) {
      plain[random.below(length)] = random.below(256);
    }
    return plain;
  }

  /** @throws Error what rule was broken */
  #examine(plain: Uint8Array, random: Random, run: number): 'packed' | 'unfit' {
    const [main, ...others] = random.pick(this.#encoders);
    const room = [plain.length - 1, random.below(plain.length), plain.length + OVERHEAD];
    const capacity = random.pick(room);
    const stream = main!.encode(plain, capacity);
    if (run % 16 === 0) {
      const other = random.pick(others).encode(plain, capacity);
      const nothing = new Uint8Array();
      const isSame = Buffer.compare(stream ?? nothing, other ?? nothing) === 0;
      if (!isSame) throw new Error('another backend makes another stream');
    }
    if (stream === undefined) {
      if (capacity > plain.length)
        throw new Error('a stream needs more than its content and 1 KiB');
      return 'unfit';
    }
    const theirs = this.#oracle.decode(stream, plain.length);
    if (theirs === undefined) throw new Error('the library refuses the stream');
    if (Buffer.compare(theirs, plain) !== 0) throw new Error('the library decodes other bytes');
    if (Buffer.compare(main!.decode(stream, plain.length), plain) !== 0) {
      throw new Error('our decoder decodes other bytes');
    }
    if (this.codec === 'deflate' && run % 4 === 0) expectSmallWindow(stream, plain);
    return 'packed';
  }
}

/** Decodes in small pieces, for which only the window is kept. */
function expectSmallWindow(stream: Uint8Array, plain: Uint8Array): void {
  const bytes = inflateRawSync(stream, { windowBits: WINDOW_BITS, chunkSize: 256 });
  if (Buffer.compare(bytes, plain) !== 0) throw new Error('other bytes with a window of 4 KiB');
}
