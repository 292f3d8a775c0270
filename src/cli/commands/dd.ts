import { Qcow2Error } from '../../errors.ts';
import { openImage } from '../../node/open-image.ts';
import type { DiskRange } from '../../operations/chunks.ts';
import { shownName } from '../../storage/http-url.ts';
import { convertFile } from '../../workers/convert-file.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { parseBounded } from '../sizes.ts';

const MAX_BLOCK_SIZE = 2n ** 31n - 1n;
const MAX_BLOCKS = 2n ** 63n - 1n;
const DEFAULT_BLOCK_SIZE = 512n;

/** What the `name=value` operands say. */
interface Operands {
  input: string;
  target: string;
  blockSize: bigint;
  count: bigint | undefined;
  skip: bigint;
}

/** `qcow2 dd`: copies blocks of a disk. */
export async function run(args: Arguments<'dd'>, context: Context): Promise<number> {
  const operands = readOperands(args.operands);
  const format = knownFormat(args.value('target-format') ?? 'raw');
  const { allowExternal, share, sync, ...named } = inputImage(args, operands.input);
  const image = await openImage(named.path, {
    ...named,
    allowExternal,
    share,
    sync,
    signal: context.interruptible(),
  });
  await image.close();
  const { range, tooFar } = blockRange(operands, image.virtualSize);
  if (tooFar)
    context.writeError(`qcow2: ${shownName(named.path)}: cannot skip to specified offset\n`);
  await convertFile({
    inputs: [named],
    target: operands.target,
    targetFormat: format,
    range,
    // Every block is written, as by qemu-img: the target's space does not depend on what it holds.
    sparseSize: 0,
    allowExternal,
    share,
    signal: context.interruptible(),
  });
  return 0;
}

/**
 * @throws Qcow2Error INVALID_ARGUMENT
 */
function readOperands(operands: readonly string[]): Operands {
  const values = new Map<string, string>();
  const read: Operands = {
    input: '',
    target: '',
    blockSize: DEFAULT_BLOCK_SIZE,
    count: undefined,
    skip: 0n,
  };
  for (const operand of operands) {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(operand)!;
    if (value === undefined) throw unrecognized(name);
    values.set(name, value);
    if (name === 'bs') read.blockSize = parseBounded(value, name, 1, MAX_BLOCK_SIZE);
    else if (name === 'count') read.count = parseBounded(value, name, 0, MAX_BLOCKS);
    else if (name === 'skip') read.skip = parseBounded(value, name, 0, MAX_BLOCKS);
    else if (name === 'if') read.input = value;
    else if (name === 'of') read.target = value;
    else throw unrecognized(name);
  }
  if (values.has('if') && values.has('of')) return read;
  throw new Qcow2Error('INVALID_ARGUMENT', 'Must specify both input and output files');
}

function unrecognized(name: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', `unrecognized operand ${name}`);
}

/**
 * The guest bytes that are copied. As in qemu-img `count` tells where the input ends, so that blocks
 * that are skipped count as well.
 */
function blockRange(
  { blockSize, count, skip }: Operands,
  virtualSize: number,
): { range: DiskRange; tooFar: boolean } {
  const size = BigInt(virtualSize);
  const wanted = count === undefined ? size : count * blockSize;
  const end = wanted < size ? wanted : size;
  const start = skip * blockSize;
  const tooFar = start > end;
  const offset = Number(tooFar ? end : start);
  return { range: { offset, length: Number(end) - offset }, tooFar };
}
