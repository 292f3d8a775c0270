import { Qcow2Error } from '../../errors.ts';
import type { Preallocation } from '../../image/new-image.ts';
import { openChain } from '../../node/open-image.ts';
import { resize } from '../../operations/resize.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { parseResize } from '../sizes.ts';

const MODES = ['off', 'metadata', 'falloc', 'full'] as const;
/** The longest disk there is a number for. */
const MAX_SIZE = 2n ** 63n - 1n;

/** `qcow2 resize`: a disk gets longer or shorter. */
export async function run(args: Arguments<'resize'>, context: Context): Promise<number> {
  const [operand = '', change = ''] = args.operands;
  const preallocation = preallocationOf(args);
  // What is no size is told before anything is opened.
  parseResize(change, 0);
  const { path, ...input } = inputImage(
    {
      value: (name) => args.value(name),
      values: (name) => args.values(name),
      has: (name) => name === 'image-opts' && args.has(name),
    },
    operand,
  );
  const image = await openChain(path, { ...input, writable: true });
  try {
    const size = newSize(change, image.virtualSize);
    const shrink = args.has('shrink');
    if (size < image.virtualSize && !shrink && preallocation === 'off') {
      context.writeError(REFUSAL);
      return 1;
    }
    const signal = context.interruptible();
    await resize(image, size, { shrink, preallocation, signal });
  } finally {
    await image.close();
  }
  if (!args.has('quiet')) context.write('Image resized.\n');
  return 0;
}

/** Two lines, which scripts look for. */
const REFUSAL = `qcow2: Use the --shrink option to perform a shrink operation.
qcow2: warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure there is no important data there.
`;

function preallocationOf(args: Arguments<'resize'>): Preallocation {
  const value = args.value('preallocation') ?? 'off';
  const mode = MODES.find((candidate) => candidate === value);
  if (mode !== undefined) return mode;
  throw new Qcow2Error('INVALID_ARGUMENT', `Invalid preallocation mode '${value}'`);
}

function newSize(change: string, from: number): number {
  const size = parseResize(change, from);
  if (size <= 0n || size > MAX_SIZE)
    throw new Qcow2Error('INVALID_ARGUMENT', 'New image size must be positive');
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  throw new Qcow2Error('TOO_LARGE', 'Failed to grow the L1 table: File too large');
}
