import type { Source } from './chunks.ts';
import { PIECE_BYTES, type Piece, type PlannedStream, type StreamSteps } from './stream-parts.ts';

/**
 * The disk itself, zeros and all.
 * @param size of the new disk in bytes; what the source lacks is zeros
 */
export function planRaw(source: Source, size: number, steps: StreamSteps): PlannedStream {
  async function* pieces(): AsyncGenerator<Piece, void, undefined> {
    for (let at = 0; at < size; at += PIECE_BYTES) {
      await steps.reached(at);
      const piece = steps.newPiece(Math.min(PIECE_BYTES, size - at));
      if (at + piece.length > source.size) piece.fill(0);
      if (at < source.size) await source.read(at, piece);
      yield piece;
    }
    await steps.reached(size);
  }
  return { length: size, pieces };
}
