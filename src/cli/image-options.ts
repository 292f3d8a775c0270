import { Qcow2Error } from '../errors.ts';
import type { NamedFiles } from '../node/open-image.ts';
import { parseKeyValues } from './key-values.ts';

/** An image as `--image-opts` describes it: its file, and those below that are given too. */
export interface ImageDescription extends NamedFiles {
  path: string;
}

/**
 * Reads the key=value form of an image over local files, as in
 * `driver=qcow2,file.filename=a.qcow2,backing.driver=raw,backing.file.filename=b.raw`.
 * @throws Qcow2Error INVALID_ARGUMENT for a missing file name, an unknown key or driver
 */
export function parseImageOptions(text: string): ImageDescription {
  const values = new Map<string, string>();
  for (const { key, value } of parseKeyValues(text)) {
    if (value === undefined) throw invalid(text, `'${key}' has no value; write key=value`);
    values.set(key, value);
  }
  const image = takeImage(values, '', text);
  const [unknown] = values.keys();
  if (unknown !== undefined) throw invalid(text, `key '${unknown}' is not supported`);
  return image;
}

/** Takes the keys below `prefix` (empty, `backing.`, `backing.backing.`, ...) out of the map. */
function takeImage(values: Map<string, string>, prefix: string, text: string): ImageDescription {
  const take = (key: string): string | undefined => {
    const value = values.get(prefix + key);
    values.delete(prefix + key);
    return value;
  };
  const driver = take('driver') ?? 'raw';
  if (!['qcow2', 'raw', 'file'].includes(driver))
    throw invalid(text, `driver '${driver}' is not supported; qcow2, raw and file are`);
  const path = driver === 'file' ? take('filename') : takeFile(take, 'file.', text);
  if (path === undefined) {
    const key = driver === 'file' ? 'filename' : 'file.filename';
    throw invalid(text, `'${prefix}${key}' is missing`);
  }
  const image: ImageDescription = { path, format: driver === 'qcow2' ? 'qcow2' : 'raw' };
  if (driver !== 'qcow2') return image;
  const dataFile = takeDataFile(take, text);
  if (dataFile !== undefined) image.dataFile = dataFile;
  const below = `${prefix}backing.`;
  if ([...values.keys()].some((key) => key.startsWith(below)))
    image.backingFile = takeImage(values, below, text);
  return image;
}

type Take = (key: string) => string | undefined;

/** `X.filename`, whose driver can only be `file`. */
function takeFile(take: Take, prefix: string, text: string): string | undefined {
  const driver = take(`${prefix}driver`) ?? 'file';
  if (driver !== 'file')
    throw invalid(text, `${prefix}driver '${driver}' is not supported; only local files are`);
  return take(`${prefix}filename`);
}

/** `data-file.filename`, or `data-file.driver=raw,data-file.file.filename`. */
function takeDataFile(take: Take, text: string): string | undefined {
  const driver = take('data-file.driver') ?? 'file';
  if (driver === 'file') return take('data-file.filename');
  if (driver === 'raw') return takeFile(take, 'data-file.file.', text);
  throw invalid(text, `data-file.driver '${driver}' is not supported; file and raw are`);
}

function invalid(text: string, why: string): Qcow2Error {
  return new Qcow2Error('INVALID_ARGUMENT', `Could not open '${text}': ${why}`);
}
