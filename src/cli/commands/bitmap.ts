import { isQcow2Error, Qcow2Error } from '../../errors.ts';
import type { Image } from '../../image/image.ts';
import { openChain, openImage } from '../../node/open-image.ts';
import {
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  removeBitmap,
} from '../../operations/bitmap.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage, knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { parseBounded } from '../sizes.ts';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;
type Action = { readonly name: (typeof ACTIONS)[number]; readonly value: string };

/** What actions work with. */
interface Parts {
  readonly image: Image;
  readonly bitmap: string;
  /** Where merged bitmaps come from. */
  readonly source: Image;
  readonly granularity: number;
}

/** `qcow2 bitmap`: the persistent dirty bitmaps of an image. */
export async function run(args: Arguments<'bitmap'>, _: Context): Promise<number> {
  const actions = args.inOrder(ACTIONS);
  const granularity = granularityOf(args);
  requireConsistent(args, granularity);
  const [operand = '', bitmap = ''] = args.operands;
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
    const source = await openSource(args);
    try {
      const parts = { image, bitmap, source: source ?? image, granularity };
      for (const action of actions) await act(action, parts);
    } finally {
      await source?.close();
    }
  } catch (error) {
    // What cannot be closed after an error fails for the same reason.
    await image.close().catch(() => undefined);
    throw error;
  }
  await image.close();
  return 0;
}

function granularityOf(args: Arguments<'bitmap'>): number {
  const value = args.value('granularity');
  if (value === undefined) return 0;
  return Number(parseBounded(value, 'granularity', 0, 2n ** 63n - 1n));
}

function requireConsistent(args: Arguments<'bitmap'>, granularity: number): void {
  const invalid = (text: string): never => {
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  };
  if (!ACTIONS.some((action) => args.has(action)))
    invalid('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  if (granularity !== 0 && !args.has('add')) invalid('granularity only supported with --add');
  if (args.has('source-format') && !args.has('source-file')) invalid('-F only supported with -b');
  if (args.has('source-file') && !args.has('merge'))
    invalid('Merge bitmap source file only supported with --merge');
}

/** The image `-b` names; of it only metadata is read. */
async function openSource(args: Arguments<'bitmap'>): Promise<Image | undefined> {
  const path = args.value('source-file');
  if (path === undefined) return undefined;
  const format = args.value('source-format');
  return openImage(path, {
    sync: true,
    ...(format !== undefined && { format: knownFormat(format) }),
  });
}

async function act(action: Action, parts: Parts): Promise<void> {
  try {
    await doAction(action, parts);
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    const text = `Operation ${action.name} on bitmap ${parts.bitmap} failed: ${error.message}`;
    throw new Qcow2Error(error.code, text, error.details, { cause: error });
  }
}

function doAction({ name, value }: Action, parts: Parts): Promise<void> {
  const { image, bitmap, source, granularity } = parts;
  switch (name) {
    case 'add':
      return addBitmap(image, bitmap, granularity === 0 ? {} : { granularity });
    case 'remove':
      return removeBitmap(image, bitmap);
    case 'clear':
      return clearBitmap(image, bitmap);
    case 'enable':
      return enableBitmap(image, bitmap);
    case 'disable':
      return disableBitmap(image, bitmap);
    case 'merge':
      return mergeBitmap(image, bitmap, value, source);
  }
}
