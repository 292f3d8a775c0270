import * as path from 'node:path';
import { printable, Qcow2Error } from '../../errors.ts';
import { adoptFile } from '../../node/adopt-file.ts';
import { openChain } from '../../node/open-image.ts';
import { type Arguments, asksForOptionList } from '../arguments.ts';
import { knownFormat } from '../common-options.ts';
import type { Context } from '../context.ts';
import { CreateOptionValues, createOptionsHelp } from '../create-options.ts';

/** Options of new images that the disk decides, or that nothing is left for. */
const EXCLUDED = [
  'size',
  'backing_file',
  'backing_fmt',
  'compression_level',
  'compression_type',
  'data_file',
  'preallocation',
] as const;

/** `qcow2 adopt`: a qcow2 image around a raw disk. */
export async function run(args: Arguments<'adopt'>, context: Context): Promise<number> {
  const lists = args.values('options');
  if (asksForOptionList(lists)) {
    context.write(createOptionsHelp('qcow2'));
    return 0;
  }
  const [disk = '', file = ''] = args.operands;
  const format = args.value('format');
  if (format !== undefined && knownFormat(format) !== 'raw')
    throw invalid(`-f ${format}: only a raw disk can be adopted; 'qcow2 convert' copies others`);
  const values = new CreateOptionValues('qcow2', lists);
  for (const key of EXCLUDED)
    if (values.has(key)) throw invalid(`option '${key}' does not go with adopt`);
  const { size: _, ...create } = values.settings();
  if (create.dataFileRaw === false)
    throw invalid("option 'data_file_raw' does not go off with adopt");
  const { size, dataFile } = await adoptFile({
    ...create,
    disk,
    path: file,
    force: format === 'raw',
    signal: context.interruptible(),
  });
  values.set('size', size);
  values.set('data_file', dataFile);
  values.set('data_file_raw', 'on');
  if (!args.has('quiet')) context.write(`${printable(values.formattingLine(file))}\n`);
  for (const text of await warnings(file, dataFile))
    context.writeError(`qcow2: warning: ${printable(text)}\n`);
  return 0;
}

/** Why a program may not find the disk by the name that was recorded. */
async function warnings(file: string, dataFile: string): Promise<string[]> {
  const texts: string[] = [];
  const folder = path.dirname(file);
  if (path.resolve(folder, dataFile) !== path.resolve(dataFile))
    texts.push(
      `data file '${dataFile}' is taken from the image's folder; QEMU takes it from its working directory: run it in '${folder}', or adopt the disk by its absolute name`,
    );
  try {
    await (await openChain(file, { sync: true })).close();
  } catch (error) {
    if (!(error instanceof Qcow2Error) || error.code !== 'EXTERNAL_REFUSED') throw error;
    texts.push(
      `data file '${dataFile}' is outside the image's folder: opening '${file}' needs --allow-external`,
    );
  }
  return texts;
}

function invalid(message: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', message);
}
