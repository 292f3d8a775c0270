import type { Image } from '../image/image.ts';

/** A piece of a copy, and the buffer it was read into. */
export interface ReadPiece<Piece, Buffer> {
  piece: Piece;
  buffer: Buffer;
}

/**
 * The same pieces, each when it has been read; while one is written the next is being read, into the
 * other buffer. No read is under way any more when this has ended, whatever ended it.
 * @param read one call at a time, in order; must not wait for what the caller does with a piece
 * @throws what `pieces` and `read` throw
 */
export async function* readAhead<Piece, Buffer>(
  pieces: AsyncIterable<Piece>,
  buffers: readonly [Buffer, Buffer],
  read: (piece: Piece, buffer: Buffer) => Promise<void>,
): AsyncGenerator<ReadPiece<Piece, Buffer>> {
  let current: Promise<ReadPiece<Piece, Buffer>> | undefined;
  let next: typeof current;
  let [buffer, other] = buffers;
  try {
    for await (const piece of pieces) {
      const into = buffer;
      [buffer, other] = [other, buffer];
      next = (current ?? Promise.resolve()).then(async () => {
        await read(piece, into);
        return { piece, buffer: into };
      });
      // Whoever waits for it learns of its failure, but nobody may.
      next.catch(() => {});
      if (current) yield await current;
      current = next;
    }
    if (current) yield await current;
  } finally {
    await next?.catch(() => {});
  }
}

/** What a kernel itself takes late, and what regions have around them. */
const SPARE_BYTES = 1 << 20;

/**
 * Grows kernel memory by all that decoding may take of it when it meets the first compressed cluster: it
 * must not grow while a read into it is under way, and from here on other calls go on beside reads.
 * @throws Qcow2Error TOO_LARGE: there is no memory
 */
export async function reserveMemory(images: readonly Image[]): Promise<void> {
  let bytes = SPARE_BYTES;
  // A stream of up to two clusters, one decoded, and room to spare.
  for (const image of images)
    for (const { layer, codec } of (await image.chain()).layers)
      if (codec) bytes += 4 * layer.clusterSize;
  for (const { kernel } of images) kernel.arena.reserve(bytes);
}
