import { Qcow2Error } from '../../errors.ts';
import type { Image } from '../../image/image.ts';
import { openChain } from '../../node/open-image.ts';
import { TargetFile } from '../../node/target-file.ts';
import { type DiskPicture, diskPicture } from '../../operations/disk-picture.ts';
import { type MapEntry, map } from '../../operations/map.ts';
import { pictureSvg } from '../../operations/picture-svg.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { pictureText, TEXT_CELLS } from '../picture-text.ts';
import { MAP_HEADING, mapEntryText, sizeText } from '../print-human.ts';
import { mapEntryJson } from '../print-json.ts';
import { parseSize } from '../sizes.ts';

/** `qcow2 map`: where the ranges of the virtual disk are stored. */
export async function run(args: Arguments<'map'>, context: Context): Promise<number> {
  const style = args.choice('output', ['human', 'json']);
  const start = parseSize(args.value('start-offset') ?? '0', 'start offset');
  const wanted = args.value('max-length');
  const most = wanted === undefined ? Number.MAX_SAFE_INTEGER : parseSize(wanted, 'maximum length');
  const input = { ...inputImage(args, args.operands[0] ?? ''), holdLocks: false };
  const svg = args.value('svg');
  const asPicture = svg !== undefined || args.has('graph');
  if (asPicture && (args.has('output') || args.has('start-offset') || args.has('max-length'))) {
    const text = '--graph and --svg show the whole disk: leave out --output, -s and -l';
    throw new Qcow2Error('INVALID_ARGUMENT', text);
  }
  const image = await openChain(input.path, input);
  try {
    if (asPicture) return await drawPicture(image, svg, context);
    const length = Math.min(most, image.virtualSize - start);
    const entries = length > 0 ? map(image, { start, length }) : [nothing(start)];
    await print(style === 'json' ? jsonParts(entries) : humanParts(entries), context);
    return 0;
  } finally {
    await image.close();
  }
}

/** Cells of a picture that is 512 pixels wide. */
const SVG_CELLS = 128 * 128;

/** Draws what can be decoded; of what cannot, the picture shows where it is, and an error what it is. */
async function drawPicture(
  image: Image,
  svg: string | undefined,
  context: Context,
): Promise<number> {
  const signal = context.interruptible();
  const maxCells = svg === undefined ? TEXT_CELLS : SVG_CELLS;
  const picture = await diskPicture(image, { maxCells, signal });
  if (svg === undefined) context.write(pictureText(picture));
  else await writeSvg(picture, (image.storage.name ?? '').replace(/^.*\//, ''), svg);
  if (picture.damage) throw picture.damage;
  return 0;
}

async function writeSvg(picture: DiskPicture, title: string, path: string): Promise<void> {
  const target = new TargetFile(path, { durable: false });
  try {
    target.storage.write(0, new TextEncoder().encode(pictureSvg(picture, title, sizeText)));
    await target.seal();
    target.publish();
  } catch (error) {
    target.abandon();
    throw error;
  }
}

/** What qemu-img prints for an empty range. */
function nothing(start: number): MapEntry {
  const flags = { present: false, zero: false, data: false, compressed: false };
  return { start, length: 0, depth: 0, ...flags };
}

type Entries = AsyncIterable<MapEntry> | Iterable<MapEntry>;

async function* jsonParts(entries: Entries): AsyncGenerator<string> {
  let before = '[';
  for await (const entry of entries) {
    yield before + mapEntryJson(entry);
    before = ',\n';
  }
  yield ']\n';
}

async function* humanParts(entries: Entries): AsyncGenerator<string> {
  yield `${MAP_HEADING}\n`;
  for await (const entry of entries) {
    if (!entry.data || entry.zero) continue;
    const { offset, file } = entry;
    if (offset === undefined || file === undefined) throw notInFile(entry);
    yield `${mapEntryText({ ...entry, offset, file })}\n`;
  }
}

/** Characters printed at once: a fragmented image has millions of lines. */
const PRINT_CHARACTERS = 64 * 1024;

/** Prints text as it comes, what came before an error included. */
async function print(parts: AsyncIterable<string>, context: Context): Promise<void> {
  let text = '';
  try {
    for await (const part of parts) {
      text += part;
      if (text.length < PRINT_CHARACTERS) continue;
      context.write(text);
      text = '';
      await context.drained();
    }
  } finally {
    context.write(text);
  }
}

function notInFile({ start, length }: MapEntry): Qcow2Error {
  return new Qcow2Error(
    'REFUSED',
    `${length} bytes at guest offset ${start} are compressed or encrypted, which this table cannot show; use --output=json`,
    { guestOffset: start },
  );
}
