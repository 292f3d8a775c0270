import { isQcow2Error, Qcow2Error } from '../../errors.ts';
import { openChain } from '../../node/open-image.ts';
import { type BenchOptions, bench } from '../../operations/bench.ts';
import type { Arguments } from '../arguments.ts';
import { CACHE_MODES } from '../cache-modes.ts';
import { inputImage, requireUnshared } from '../common-options.ts';
import type { Context } from '../context.ts';
import { parseBounded, parseWholeNumber } from '../sizes.ts';

const MAX_INT = 2 ** 31 - 1;
const MAX_OFFSET = 2n ** 63n - 1n;

/** `qcow2 bench`: how fast requests are served. */
export async function run(args: Arguments<'bench'>, context: Context): Promise<number> {
  const writes = args.has('write');
  const options = benchOptions(args);
  const { path, ...input } = inputImage(args, args.operands[0] ?? '');
  if (writes) requireUnshared(input, path);
  const durable = args.value('cache') !== 'unsafe';
  const image = await openChain(path, { ...input, writable: writes, durable });
  try {
    context.write(announcement(options, writes));
    const { seconds } = await bench(image, { ...options, signal: context.interruptible() });
    context.write(`Run completed in ${seconds.toFixed(3)} seconds.\n`);
    return 0;
  } catch (error) {
    throw requestFailed(error);
  } finally {
    await image.close();
  }
}

type Requests = Required<
  Pick<BenchOptions, 'count' | 'depth' | 'bufferSize' | 'step' | 'offset' | 'flushInterval'>
>;

function announcement(options: Requests, writes: boolean): string {
  const { count, depth, bufferSize, step, offset, flushInterval } = options;
  const start = `starting at offset ${offset}, step size ${step}`;
  const kind = writes ? 'write' : 'read';
  const first = `Sending ${count} ${kind} requests, ${bufferSize} bytes each, ${depth} in parallel (${start})\n`;
  return flushInterval > 0 ? `${first}Sending flush every ${flushInterval} requests\n` : first;
}

function benchOptions(args: Arguments<'bench'>): BenchOptions & Requests {
  args.choice('aio', ['threads', 'native', 'io_uring']);
  const cache = args.choice('cache', CACHE_MODES);
  const whole = (name: Parameters<typeof args.value>[0], normal: number, what: string) => {
    const text = args.value(name);
    return text === undefined ? normal : wholeNumber(text, what, MAX_INT);
  };
  const size = (name: Parameters<typeof args.value>[0], what: string, most: bigint) => {
    const text = args.value(name);
    return text === undefined ? undefined : Number(parseBounded(text, what, 0, most));
  };
  const count = whole('count', 75_000, 'request count');
  const depth = whole('depth', 64, 'queue depth');
  // qemu-img never ends without a request to wait for.
  if (depth === 0) throw invalid('Invalid queue depth specified');
  const bufferSize = size('buffer-size', 'buffer size', BigInt(MAX_INT)) ?? 4096;
  const step = size('step-size', 'step_size', BigInt(MAX_INT)) || bufferSize;
  const offset = size('offset', 'offset', MAX_OFFSET) ?? 0;
  const flushInterval = whole('flush-interval', 0, 'flush interval');
  const pattern = args.value('pattern');
  const byte = pattern === undefined ? 0 : wholeNumber(pattern, 'pattern byte', 255);
  if (!args.has('write')) {
    if (flushInterval > 0) throw invalid('--flush-interval is only available in write tests');
    return { count, depth, bufferSize, step, offset, flushInterval };
  }
  if (flushInterval > 0 && flushInterval < depth)
    throw invalid("Flush interval can't be smaller than depth");
  const writethrough = cache === 'writethrough' || cache === 'directsync';
  const flushes = { flushInterval, writethrough, drain: !args.has('no-drain') };
  return { count, depth, bufferSize, step, offset, pattern: byte, ...flushes };
}

function wholeNumber(text: string, what: string, most: number): number {
  try {
    const value = parseWholeNumber(text, what);
    if (value <= most) return value;
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
  }
  throw invalid(`Invalid ${what} specified`);
}

/** A request that failed, in the words scripts look for. */
function requestFailed(error: unknown): unknown {
  if (!isQcow2Error(error) || error.code === 'ABORTED') return error;
  const text = `Failed request: ${error.message}`;
  return new Qcow2Error(error.code, text, error.details, { cause: error });
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
