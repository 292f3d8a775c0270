import { BlockWriter, Counts } from './deflate-block.ts';
import { type Effort, Parser, type Step } from './deflate-parse.ts';

const PIECE_BYTES = 8192;
const BLOCK_BYTES = 65536;
/** By level. */
const EFFORTS: readonly Effort[] = [
  { depth: 3, nice: 32, lazy: 16, thorough: false },
  { depth: 16, nice: 64, lazy: 32, thorough: true },
  { depth: 256, nice: 258, lazy: 258, thorough: true },
];

/** Bytes of a sample, of the stride it stands for, and of strides between two looks at the counts. */
const SAMPLE = 64;
const STRIDE = 512;
const STEP = 4 * STRIDE;

function isRepeated(u8: Uint8Array, at: number, start: number): boolean {
  for (let from = at - STRIDE; from >= start && from >= at - 8 * STRIDE; from -= STRIDE) {
    if ([0, 1, 2, 3].every((i) => u8[from + i] === u8[at + i])) return true;
  }
  return false;
}

/** Whether a sample of `at .. to` looks like noise; the source begins at `start`. */
function isNoise(u8: Uint8Array, start: number, at: number, to: number): boolean {
  if (to - at < 2 * STEP) return false;
  const counts = new Uint32Array(256);
  let samples = 0;
  let squares = 0;
  for (let step = at; to - step >= STEP; step += STEP) {
    for (let from = step; from < step + STEP; from += STRIDE) {
      if (isRepeated(u8, from, start)) return false;
      for (let i = from; i < from + SAMPLE; i++) {
        const before = counts[u8[i] as number] as number;
        squares += 2 * before + 1;
        counts[u8[i] as number] = before + 1;
      }
    }
    samples += (STEP / STRIDE) * SAMPLE;
    if (squares > Math.floor((samples * (samples + 370)) / 256)) return false;
  }
  return true;
}

/** Parses and writes the source block by block. False if it does not fit. */
function writeBlocks(
  u8: Uint8Array,
  src: number,
  end: number,
  effort: Effort,
  writer: BlockWriter,
): boolean {
  const parser = new Parser(u8, src, end, effort);
  let start = src;
  let steps: Step[] = [];
  let counts = new Counts();
  do {
    const from = parser.at;
    const to = Math.min(from + PIECE_BYTES, end);
    const piece = isNoise(u8, src, from, to) ? parser.literals(to) : parser.piece(to);
    const pieceCounts = Counts.of(u8, from, piece);
    parser.far = pieceCounts.farthestShortMatch();
    if (from > start && (parser.at - start > BLOCK_BYTES || counts.isApart(pieceCounts))) {
      if (!writer.block(start, from, steps, counts, false)) return false;
      start = from;
      steps = [];
      counts = new Counts();
    }
    steps = steps.concat(piece);
    counts.join(pieceCounts);
  } while (parser.at < end);
  return writer.block(start, end, steps, counts, true);
}

/** Twin of `deflate`: the same bytes. */
export function deflate(
  u8: Uint8Array,
  src: number,
  srcLength: number,
  out: number,
  outCapacity: number,
  level: number,
): number {
  const end = src + srcLength;
  const writer = new BlockWriter(u8, out, outCapacity);
  const fits = isNoise(u8, src, src, end)
    ? writer.stored(src, end, true)
    : writeBlocks(u8, src, end, EFFORTS[level] as Effort, writer);
  return fits ? writer.finish() - out : -1;
}
