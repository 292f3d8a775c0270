import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { type OperationControl, pacer } from './control.ts';

/** What requests to send. Offsets and lengths are in bytes. */
export interface BenchOptions extends Pick<OperationControl, 'signal'> {
  /** Number of requests. Default 75000. */
  count?: number;
  /** Requests sent before the first is answered. Default 64. */
  depth?: number;
  /** Bytes of a request. Default 4096. */
  bufferSize?: number;
  /** From a request to the next, which starts again behind the disk's end. Default `bufferSize`. */
  step?: number;
  /** Of the first request. Default 0. */
  offset?: number;
  /** Write, to an image that is open for it, bytes of this value. Absent: read. */
  pattern?: number;
  /** Flush after every write. */
  writethrough?: boolean;
  /** Flush after every so many writes, at least `depth`; default 0: never. */
  flushInterval?: number;
  /** Send nothing while a flush is under way. Default true. */
  drain?: boolean;
}

/** How a benchmark went. */
export interface BenchResult {
  seconds: number;
}

/**
 * Reads or writes ranges of a disk, one after the other, and tells how long that took.
 * @throws Qcow2Error INVALID_ARGUMENT, also for a range that reaches over the end of the disk; TOO_LARGE:
 *   no memory for the buffers; ABORTED; and those of reading, or writing and flushing
 * @example
 * import { openAsBlob } from 'node:fs';
 * import { bench, Image } from 'qcow2';
 *
 * const image = await Image.open(await openAsBlob('disk.qcow2'));
 * const { seconds } = await bench(image, { count: 100, bufferSize: 16384 });
 * console.log(`${100 / seconds} requests a second`);
 * await image.close();
 */
export async function bench(image: Image, options: BenchOptions = {}): Promise<BenchResult> {
  const { count = 75_000, depth = 64, bufferSize = 4096, step, offset = 0, pattern } = options;
  const { writethrough = false, flushInterval = 0, drain = true, signal } = options;
  requireSensible({ count, depth, bufferSize, step: step ?? 0, offset, flushInterval });
  const pace = pacer(signal, 'the benchmark');
  let [next, sent, answered, failed] = [offset, 0, 0, false];
  let flushing: Promise<void> | undefined;

  const request = async (buffer: Uint8Array): Promise<void> => {
    const at = next;
    next = (at + (step || bufferSize)) % Math.max(1, image.virtualSize);
    sent++;
    if (pattern === undefined) return image.read(at, buffer);
    await image.write(at, buffer);
    if (writethrough) await image.flush();
    if (flushInterval === 0 || ++answered % flushInterval !== 0) return;
    flushing = image.flush();
    await flushing;
  };
  /** Sends a request when its last one has been answered. */
  const loop = async (): Promise<void> => {
    const buffer = requestBuffer(bufferSize, pattern);
    while (sent < count && !failed) {
      await pace();
      if (drain) await flushing;
      if (sent < count) await request(buffer);
    }
  };
  await image.chain();
  const began = performance.now();
  const loops = Array.from({ length: Math.min(depth, count) }, loop);
  for (const each of loops)
    each.catch(() => {
      failed = true;
    });
  await Promise.all(loops);
  return { seconds: (performance.now() - began) / 1000 };
}

function requestBuffer(length: number, pattern: number | undefined): Uint8Array {
  try {
    const buffer = new Uint8Array(length);
    return pattern === undefined ? buffer : buffer.fill(pattern);
  } catch (cause) {
    const text = `no memory for requests of ${length} bytes; make them smaller or send fewer at a time`;
    throw new Qcow2Error('TOO_LARGE', text, { value: length }, { cause });
  }
}

function requireSensible(
  values: Record<'count' | 'depth' | 'flushInterval', number> & Record<string, number>,
): void {
  const fail = (text: string): never => {
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  };
  for (const [name, value] of Object.entries(values))
    if (!Number.isSafeInteger(value) || value < 0)
      fail(`${name} must be a whole number, not ${value}`);
  const { depth, flushInterval } = values;
  if (depth === 0) fail('depth must be at least 1');
  if (flushInterval > 0 && flushInterval < depth)
    fail("Flush interval can't be smaller than depth");
}
