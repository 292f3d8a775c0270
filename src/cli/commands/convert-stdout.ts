import { Qcow2Error } from '../../errors.ts';
import { createKernel } from '../../kernel/kernel.ts';
import { planStream, type ReadableOptions } from '../../operations/stream.ts';
import { openSource } from '../../workers/input-files.ts';
import type { InputFiles } from '../../workers/messages.ts';
import type { Context } from '../context.ts';

/**
 * Writes an image to standard output, front to back.
 * @throws Qcow2Error REFUSED: it is a terminal; IO: nobody reads on; those of `toReadable`
 */
export async function convertToStdout(
  files: InputFiles,
  options: ReadableOptions,
  context: Context,
): Promise<void> {
  const output = context.imageOutput();
  if (output.isTerminal) {
    const text = 'standard output is a terminal: send the image into a file or a pipe';
    throw new Qcow2Error('REFUSED', text);
  }
  const kernel = createKernel();
  const images = await openSource(files, kernel);
  try {
    // Opening may grow the kernel's memory, which must not happen with a read under way.
    for (const image of images) await image.chain();
    const stream = await planStream(images, { ...options, kernel });
    for await (const piece of stream.pieces()) await output.write(piece);
  } finally {
    for (const image of images) await image.close();
  }
}
