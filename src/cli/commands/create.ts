import { printable, Qcow2Error } from '../../errors.ts';
import { createFile } from '../../node/create-file.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';
import { parseSize } from '../sizes.ts';

/** `qcow2 create`: a new, empty image. */
export async function run(args: Arguments<'create'>, context: Context): Promise<number> {
  const format = knownFormat(args.value('format') ?? 'raw');
  const lists = args.values('options');
  if (asksForOptionList(lists)) {
    context.write(createOptionsHelp(format));
    return 0;
  }
  const [path = '', size] = args.operands;
  const values = new CreateOptionValues(format, lists);
  if (size !== undefined) {
    if (values.has('size')) throw twoSizes();
    values.set('size', parseSize(size, 'image size'));
  }
  const backingFile = args.value('backing-file');
  const backingFormat = args.value('backing-format');
  if (backingFile !== undefined) values.set('backing_file', backingFile);
  if (backingFormat !== undefined) values.set('backing_fmt', backingFormat);
  const { size: created } = await createFile({
    ...values.settings(),
    path,
    format,
    unsafe: args.has('unsafe'),
    signal: context.interruptible(),
  });
  if (!values.has('size')) values.set('size', created);
  if (!args.has('quiet')) context.write(`${printable(values.formattingLine(path))}\n`);
  return 0;
}

function twoSizes(): Qcow2Error {
  return new Qcow2Error(
    'INVALID_ARGUMENT',
    'the image size is given twice, as SIZE and as -o size',
  );
}
