import { ZSTD_INVALID, ZSTD_UNSUPPORTED } from '../../src/kernel/abi.ts';
import { loadScalar, loadTarget, TARGETS } from '../kernel/backends.ts';
import { decodeByLibrary, frameLength, hasFourStreams } from '../kernel/zstd-support.ts';
import type { CodecFailure, CodecFuzzOptions, CodecName } from './codec-report.ts';
import { GuardedDecoder } from './guarded-decoder.ts';
import { MAX_STREAM, type NativeDecoder, NativeInflate, NativeZstd } from './native-codecs.ts';
import { Random } from './random.ts';
import { mutateStream, type StreamMutant } from './stream-mutate.ts';
import { deflateSeeds, type SeedStream, zstdSeeds } from './stream-seeds.ts';

/** The kernel of every run; the others and the twin in TypeScript look at some. */
const MAIN = 'release-simd';
const OTHERS_EVERY = 8;
const TWIN_EVERY = 32;

/** How often a stream was decoded, refused by both, and refused by us alone (for a known reason). */
export interface CodecCounts {
  decoded: number;
  refused: number;
  stricter: number;
}

/** Decodes damaged streams with our kernels and with the library that qemu-img uses. */
export class CodecFuzzer {
  readonly codec: CodecName;
  readonly #seeds: readonly SeedStream[];
  readonly #oracle: NativeDecoder;
  readonly #main: GuardedDecoder;
  readonly #others: readonly GuardedDecoder[];
  readonly #twin: GuardedDecoder;

  constructor(codec: CodecName) {
    this.codec = codec;
    if (codec === 'zstd') {
      const library = new NativeZstd();
      this.#oracle = library;
      this.#seeds = zstdSeeds(library);
    } else {
      this.#oracle = new NativeInflate();
      this.#seeds = deflateSeeds();
    }
    const decoder = (name: string) => new GuardedDecoder(name, loadTarget(name), codec);
    this.#main = decoder(MAIN);
    this.#others = TARGETS.filter((name: string) => name !== MAIN).map(decoder);
    this.#twin = new GuardedDecoder('js', loadScalar(), codec);
  }

  /** The mutant of one run: the same for the same seed and run. */
  mutantOf(seed: number, run: number): StreamMutant {
    return mutateStream(this.#seeds, new Random(seed, run), MAX_STREAM);
  }

  /** Decodes mutants until a rule is broken. */
  fuzz({ seed, firstRun, runs, onProgress }: CodecFuzzOptions): {
    failure: CodecFailure | undefined;
    counts: CodecCounts;
  } {
    const counts: CodecCounts = { decoded: 0, refused: 0, stricter: 0 };
    for (let run = firstRun; run < firstRun + runs; run++) {
      const mutant = this.mutantOf(seed, run);
      try {
        counts[this.#examine(mutant, run)]++;
      } catch (error) {
        return { failure: { codec: this.codec, seed, run, error, ...mutant }, counts };
      }
      if (run % 1000 === 0) onProgress?.(run);
    }
    return { failure: undefined, counts };
  }

  /** @throws Error what rule was broken */
  #examine({ stream, length }: StreamMutant, run: number): keyof CodecCounts {
    const { status, bytes } = this.#main.run(stream, length, run & 255);
    for (const decoder of this.#witnesses(run)) {
      const other = decoder.run(stream, length, ~run & 255);
      if (other.status !== status) {
        throw new Error(`status ${status} of ${MAIN}, ${other.status} of ${decoder.name}`);
      }
      if (bytes && Buffer.compare(bytes, other.bytes ?? new Uint8Array()) !== 0) {
        throw new Error(`other bytes of ${decoder.name} than of ${MAIN}`);
      }
    }
    const theirs = this.#oracle.decode(stream, length);
    if (theirs === undefined) {
      if (bytes !== undefined) throw new Error('decoded what the library refuses');
      return 'refused';
    }
    if (bytes === undefined) {
      if (this.#isStricter(stream, length, status)) return 'stricter';
      throw new Error(`status ${status} for what the library decodes`);
    }
    if (Buffer.compare(bytes, theirs) !== 0) throw new Error('other bytes than of the library');
    return 'decoded';
  }

  #witnesses(run: number): readonly GuardedDecoder[] {
    if (run % TWIN_EVERY === 0) return [this.#twin];
    if (run % OTHERS_EVERY !== 1) return [];
    return [this.#others[Math.floor(run / OTHERS_EVERY) % this.#others.length]!];
  }

  /** Whether there is a known reason to refuse what the library decodes. */
  #isStricter(stream: Uint8Array, length: number, status: number): boolean {
    if (this.codec !== 'zstd') return false;
    // libzstd knows no limit of windows where it decodes in one go.
    if (status === ZSTD_UNSUPPORTED) return true;
    // It does not ask whether each of four Huffman streams ends with its last bit (RFC 8878, 4.2.2).
    const frames = framesOf(stream);
    if (status === ZSTD_INVALID && frames.some(hasFourStreams)) return true;
    // Decoding in pieces it does not ask that of sequences either (4.1, up to 1.5.4), nor whether a
    // frame with an empty last block has the size it tells; in one go it does.
    return !frames.some((_, last) => {
      return decodeByLibrary(Buffer.concat(frames.slice(0, last + 1)), length) !== undefined;
    });
  }
}

/** The frames a stream begins with. */
function framesOf(stream: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let rest = stream; rest.length > 0; ) {
    const length = frameLength(rest);
    if (length === undefined) break;
    frames.push(rest.subarray(0, length));
    rest = rest.subarray(length);
  }
  return frames;
}
