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
      const piece = new Uint8Array(Math.min(PIECE_BYTES, size - at));
      // Bytes of a new array are zeros already, which is all there is behind the source's end.
      if (at < source.size) await source.read(at, piece);
      yield piece;
    }
    await steps.reached(size);
  }
  return { length: size, pieces };
}
