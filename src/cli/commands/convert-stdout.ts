import { Qcow2Error } from '../../errors.ts';
import { createKernel } from '../../kernel/kernel.ts';
import { planStream, type ReadableOptions } from '../../operations/stream.ts';
import { type NewPiece, PIECE_BYTES, type PlannedStream } from '../../operations/stream-parts.ts';
import type { ConvertFileOptions } from '../../workers/convert-file.ts';
import { openSource } from '../../workers/input-files.ts';
import type { InputFiles } from '../../workers/messages.ts';
import { threadedPacker } from '../../workers/pack-threads.ts';
import { settleInputs } from '../../workers/settle-inputs.ts';
import type { Context, ImageOutput } from '../context.ts';

/**
 * Writes an image to standard output, front to back.
 * @throws Qcow2Error REFUSED: it is a terminal; IO: nobody reads on; those of `toReadable`
 */
export async function convertToStdout(
  files: InputFiles & Pick<ConvertFileOptions, 'spill' | 'threads'>,
  options: ReadableOptions,
  context: Context,
): Promise<void> {
  const output = context.imageOutput();
  if (output.isTerminal) {
    const text = 'standard output is a terminal: send the image into a file or a pipe';
    throw new Qcow2Error('REFUSED', text);
  }
  const { signal, onProgress } = options;
  const onKept = (done: number) => onProgress?.(done, Number.POSITIVE_INFINITY);
  const settled = await settleInputs({ ...files, signal, onePass: false, onKept });
  const { snapshot, allowExternal, share, http } = files;
  const inputs: InputFiles = { inputs: settled.inputs, snapshot, allowExternal, share, http };
  const kernel = createKernel();
  try {
    // The next piece is read while the last one is on its way.
    const images = await openSource(inputs, kernel, signal, false);
    try {
      // Opening may grow the kernel's memory, which must not happen with a read under way.
      for (const image of images) await image.chain();
      const packer = threadedPacker(inputs, files);
      const newPiece = twoPieces();
      const stream = await planStream(images, { ...options, kernel, packer, newPiece });
      await send(stream, output, signal);
    } finally {
      for (const image of images) await image.close();
    }
  } finally {
    settled.close();
  }
}

/** Writes each piece while the next one is made. */
async function send(
  stream: PlannedStream,
  output: ImageOutput,
  signal: AbortSignal | undefined,
): Promise<void> {
  // Who reads may have stopped without going away.
  const aborted = new Promise<never>((_, reject) => {
    signal?.addEventListener('abort', () => {
      reject(new Qcow2Error('ABORTED', 'the conversion was aborted'));
    });
  });
  aborted.catch(() => {});
  let writing = Promise.resolve();
  for await (const piece of stream.pieces()) {
    await Promise.race([writing, aborted]);
    writing = output.write(piece);
    // It is told when the next piece is there.
    writing.catch(() => {});
  }
  await Promise.race([writing, aborted]);
}

/** One that is written and one that is made. */
function twoPieces(): NewPiece {
  let [next, other] = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)];
  return (length) => {
    if (length > PIECE_BYTES) return new Uint8Array(length);
    [next, other] = [other, next];
    return other.subarray(0, length);
  };
}
