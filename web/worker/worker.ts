import { isQcow2Error, printable, Qcow2Error } from '../../src/errors.ts';
import type { Image } from '../../src/image/image.ts';
import { diskPicture } from '../../src/operations/disk-picture.ts';
import { info } from '../../src/operations/info.ts';
import { couldNotOpen } from '../../src/storage/http-url.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { filePicture } from '../model/file-picture.ts';
import { placedCheck } from '../model/findings.ts';
import { gridOf } from '../model/grid.ts';
import { extensionRows, featureRows, headerRows } from '../model/header-rows.ts';
import { inspect } from '../model/inspection.ts';
import { openFiles, PickedFile } from '../model/open-files.ts';
import { readPartitions } from '../model/partitions.ts';
import { gatherStatistics } from '../model/statistics.ts';
import { openUrl } from '../open-url.ts';
import type { Answer, Damage, Given, Opened, Request, RequestName, Requests } from './messages.ts';

/** What a worker has of its global scope. */
interface WorkerScope {
  postMessage(message: Answer, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<Request>) => void) | null;
}

type Progress = (done: number, total: number) => void;
type Handler<N extends RequestName> = (
  args: Requests[N]['args'],
  progress: Progress,
) => Promise<Requests[N]['result']>;

/** One worker has one image; for another one the page starts another worker. */
let image: Image | undefined;

function opened(): Image {
  if (image !== undefined) return image;
  throw new Qcow2Error('INVALID_ARGUMENT', 'no image is open');
}

/** The image, when its disk can be looked at; or why it cannot. */
async function disk(): Promise<Image> {
  const found = opened();
  try {
    await found.chain();
  } catch (error) {
    throw couldNotOpen(error, found.storage.name ?? '');
  }
  return found;
}

const HANDLERS: { readonly [N in RequestName]: Handler<N> } = {
  open: ({ given }) => open(given),
  info: () => info(opened()),
  diskPicture: async () => {
    const { cells, damage, ...rest } = await diskPicture(await disk());
    return { ...rest, ...(damage && { damage: sentDamage(damage) }), grid: gridOf(cells) };
  },
  filePicture: async () => {
    const { cells, ...rest } = await filePicture(opened());
    return { ...rest, grid: gridOf(cells) };
  },
  inspect: ({ offset }) => inspect(opened(), offset),
  read: async ({ from, offset, length }) =>
    from === 'disk' ? readDisk(await disk(), offset, length) : readFile(opened(), offset, length),
  partitions: async () => {
    const whole = await disk();
    return readPartitions((offset, length) => readDisk(whole, offset, length), whole.virtualSize);
  },
  statistics: async () => gatherStatistics(await disk()),
  check: (_, progress) => placedCheck(opened(), paced(progress)),
};

async function open(given: readonly Given[]): Promise<Opened> {
  const storageOf = ({ source }: Given, index: number): Storage | Promise<Storage> =>
    typeof source === 'string' ? openUrl(source) : new PickedFile(source, index);
  const storages = await Promise.all(given.map(storageOf));
  const found = await openFiles(storages.map((storage, i) => ({ storage, as: given[i]?.as })));
  image = found.image;
  const { metadata, storage, format, virtualSize } = image;
  return {
    name: storage.name ?? '',
    format,
    virtualSize,
    fileSize: storage.size,
    ...(metadata && { clusterSize: metadata.geometry.clusterSize }),
    chain: found.chain,
    unused: found.unused,
    header: metadata ? headerRows(metadata.header) : [],
    features: metadata ? featureRows(metadata) : [],
    extensions: metadata ? extensionRows(metadata.extensions) : [],
  };
}

function sentDamage({ message, details }: Qcow2Error): Damage {
  const { guestOffset: guest } = details;
  return { message, ...(guest !== undefined && { guest }) };
}

async function readDisk(whole: Image, offset: number, length: number): Promise<Uint8Array> {
  const end = Math.min(offset + length, whole.virtualSize);
  const bytes = new Uint8Array(Math.max(0, end - offset));
  if (bytes.length > 0) await whole.read(offset, bytes);
  return bytes;
}

async function readFile({ storage }: Image, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, storage.size - offset)));
  return bytes.subarray(0, await storage.read(offset, bytes));
}

/** Not more often than a page can show it. */
function paced(progress: Progress): Progress {
  let last = 0;
  return (done, total) => {
    if (performance.now() - last < 50) return;
    last = performance.now();
    progress(done, total);
  };
}

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data: { id, name, args } }) => {
  const progress: Progress = (done, total) => scope.postMessage({ id, done, total });
  // What goes with a name is checked where messages are made.
  const handle = HANDLERS[name] as (args: unknown, progress: Progress) => Promise<unknown>;
  handle(args, progress).then(
    (result) => scope.postMessage({ id, result }, transfers(result)),
    (error) => scope.postMessage({ id, error: { message: errorText(error) } }),
  );
};

/** Large arrays are moved, not copied. */
function transfers(result: unknown): Transferable[] {
  const grid = (result as { grid?: { kinds: Uint8Array<ArrayBuffer> } }).grid;
  return grid === undefined ? [] : [grid.kinds.buffer];
}

function errorText(error: unknown): string {
  return isQcow2Error(error) ? error.message : printable(`internal error: ${error}`);
}
