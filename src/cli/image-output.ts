import * as fs from 'node:fs';
import { Qcow2Error } from '../errors.ts';
import { errnoText } from '../storage/file.ts';
import { growPipe } from '../storage/file-system-calls.ts';
import type { ImageOutput } from './context.ts';

/** Standard output. */
const OUTPUT = 1;

/** Standard output for an image: large pieces, written while others are made. */
export function imageOutput(): ImageOutput {
  const stat = fs.fstatSync(OUTPUT);
  // Calls of other threads; with a pipe they could not be ended when nobody reads on.
  if (stat.isFile()) return { isTerminal: false, write: writeToFile };
  if (stat.isFIFO()) growPipe(OUTPUT);
  return { isTerminal: process.stdout.isTTY === true, write: writeToStream };
}

/** What is wrong with standard output. */
export function outputError({ code = '' }: NodeJS.ErrnoException): Qcow2Error {
  const why = code === 'EPIPE' ? 'its reader is gone (EPIPE)' : (errnoText(code) ?? code);
  const text = `Could not write to standard output: ${why}`;
  return new Qcow2Error('IO', text, { errno: code });
}

async function writeToFile(bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += await new Promise<number>((resolve, reject) => {
      // Where the descriptor stands: others may have written to it before.
      fs.write(OUTPUT, bytes, done, bytes.length - done, null, (error, written) =>
        error ? reject(outputError(error)) : resolve(written),
      );
    });
}

function writeToStream(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error ? reject(outputError(error)) : resolve()));
  });
}
