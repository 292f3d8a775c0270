import { isQcow2Error, Qcow2Error, type Qcow2ErrorCode } from '../../errors.ts';
import type { Image } from '../../image/image.ts';
import { openChain } from '../../node/open-image.ts';
import { info } from '../../operations/info.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../operations/snapshot.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage, requireUnshared } from '../common-options.ts';
import type { Context } from '../context.ts';
import { snapshotTable } from '../print-human.ts';

const ACTIONS = ['list', 'apply', 'create', 'delete'] as const;
type Action = (typeof ACTIONS)[number];

/** `qcow2 snapshot`: the internal snapshots of an image. */
export async function run(args: Arguments<'snapshot'>, context: Context): Promise<number> {
  const given = ACTIONS.flatMap((name) => args.values(name).map((value) => ({ name, value })));
  if (given.length > 1)
    throw new Qcow2Error('INVALID_ARGUMENT', "Cannot mix '-l', '-a', '-c', '-d'");
  const { path, ...input } = inputImage(withoutFormat(args), args.operands[0] ?? '');
  const [action] = given;
  const writable = action !== undefined && action.name !== 'list';
  if (writable) requireUnshared(input, path);
  const image = await openChain(path, { ...input, writable });
  try {
    // Without an action qemu-img opens the image, and that is all.
    if (action !== undefined) await act(image, action.name, action.value, context);
  } catch (error) {
    // What cannot be closed after an error fails for the same reason.
    await image.close().catch(() => undefined);
    throw action === undefined ? error : failed(action.name, action.value, error);
  }
  await image.close();
  return 0;
}

/** The verb has no `-f`: only qcow2 images have snapshots. */
function withoutFormat(args: Arguments<'snapshot'>): Parameters<typeof inputImage>[0] {
  return {
    value: () => undefined,
    values: (name) => args.values(name),
    has: (name) => args.has(name),
  };
}

async function act(image: Image, action: Action, name: string, context: Context): Promise<void> {
  switch (action) {
    case 'create':
      await createSnapshot(image, name);
      return;
    case 'apply':
      await applySnapshot(image, name);
      return;
    case 'delete':
      // Unlike -a, ids are not looked at.
      await deleteSnapshot(image, { name });
      return;
    case 'list': {
      const { snapshots } = await info(image);
      if (snapshots.length === 0) return;
      context.write(`${['Snapshot list:', ...snapshotTable(snapshots)].join('\n')}\n`);
    }
  }
}

/** An error in qemu-img's words, as far as it has some, and then in ours. */
function failed(action: Action, name: string, error: unknown): unknown {
  if (!isQcow2Error(error) || action === 'list') return error;
  const words = `Could not ${action} snapshot '${name}': ${wordsFor(action, error)}`;
  const text = error.code === 'NOT_FOUND' ? words : `${words}: ${error.message}`;
  return new Qcow2Error(error.code, text, error.details, { cause: error });
}

function wordsFor(action: Exclude<Action, 'list'>, { code, details }: Qcow2Error): string {
  const isRaw = details.structure === 'image format';
  const [number, text] = SYSTEM_ERRORS[code] ?? [5, 'Input/output error'];
  if (action === 'create') return `-${number} (${text})`;
  if (action === 'delete') return code === 'NOT_FOUND' || isRaw ? 'snapshot not found' : text;
  if (isRaw) return 'Block driver does not support snapshots';
  if (details.structure === 'bitmap directory') return 'Device has active dirty bitmaps';
  return `Failed to load snapshot: ${text}`;
}

/** What qemu-img makes of errors: numbers of the system, and what it says to them. */
const SYSTEM_ERRORS: Readonly<Partial<Record<Qcow2ErrorCode, readonly [number, string]>>> = {
  NOT_FOUND: [2, 'No such file or directory'],
  INVALID_ARGUMENT: [22, 'Invalid argument'],
  TOO_LARGE: [22, 'Invalid argument'],
  MALFORMED: [22, 'Invalid argument'],
  UNSUPPORTED: [95, 'Operation not supported'],
  REFUSED: [95, 'Operation not supported'],
};
