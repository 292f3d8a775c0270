import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { hasPlace, isUnallocated, Plan } from '../image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import type { Storage } from '../storage/storage.ts';
import { throwIfAborted } from './control.ts';
import { isSparselyStored } from './sparse-file.ts';

/** One range of the disk and where its bytes come from, as `qemu-img map` describes it. */
export interface MapEntry {
  /** First guest byte, and length, in bytes. */
  start: number;
  length: number;
  /** Which file of the chain answers; 0 is the image itself. */
  depth: number;
  /** Whether any file of the chain holds the range. */
  present: boolean;
  /** Known to read as zeros; with `data`, because the file has a hole there. */
  zero: boolean;
  /** Backed by data in a file. */
  data: boolean;
  compressed: boolean;
  /** Host offset in bytes of data or a reservation; absent for compressed and unallocated ranges. */
  offset?: number;
  /** Name of the file `offset` points into. */
  file?: string;
}

/** Which part of the disk to map. */
export interface MapOptions {
  /** First guest byte; default 0. */
  start?: number;
  /** Bytes; default to the end of the disk. */
  length?: number;
  /** Ends the iteration with an `ABORTED` error. */
  signal?: AbortSignal | undefined;
}

/** Guest bytes mapped at once; the plan may end it earlier. */
const WINDOW_BYTES = 2 ** 40;

/**
 * Maps a disk without reading guest data (format sections 7 to 11). Neighbouring ranges that agree
 * are merged; memory does not follow the size of the disk.
 * @throws Qcow2Error INVALID_ARGUMENT, BAD_ENTRY, TRUNCATED, EXTERNAL_REFUSED, ABORTED
 * @example
 * import { map, openImage } from 'qcow2';
 *
 * const image = await openImage('overlay.qcow2');
 * let stored = 0;
 * for await (const { data, depth, length } of map(image)) if (data && depth === 0) stored += length;
 * console.log(`${stored} bytes of the disk are in the overlay itself`);
 * await image.close();
 */
export async function* map(image: Image, options: MapOptions = {}): AsyncGenerator<MapEntry> {
  const start = options.start ?? 0;
  const end = Math.min(image.virtualSize, start + (options.length ?? image.virtualSize));
  if (!(start >= 0) || !(end >= start))
    throw new Qcow2Error('INVALID_ARGUMENT', `map: start ${start} is not within the disk`);
  const plan = new Plan();
  const { layers } = await image.chain();
  const sparse: boolean[] = [];
  for (const { layer } of layers) sparse.push(await isSparselyStored(layer, image.kernel));
  let held: MapEntry | undefined;
  for (let at = start; at < end; ) {
    throwIfAborted(options.signal, 'mapping');
    at = await image.map(at, Math.min(end, at + WINDOW_BYTES), plan);
    for (let i = 0; i < plan.count; i++) {
      const entry = describe(plan, i);
      const { dataStorage } = layers[entry.depth]!.layer;
      if (entry.offset !== undefined) entry.file = dataStorage.name ?? '';
      const isSplit = plan.kind[i] === RUN_DATA && sparse[entry.depth];
      for (const part of isSplit ? await splitAtHoles(entry, dataStorage) : [entry]) {
        if (held && joins(held, part)) held.length += part.length;
        else {
          if (held) yield held;
          held = part;
        }
      }
    }
  }
  if (held) yield held;
}

/** Data whose file has holes: they are known to read as zeros. */
async function splitAtHoles(entry: MapEntry, storage: Storage): Promise<MapEntry[]> {
  const offset = entry.offset ?? 0;
  const length = Math.min(entry.length, storage.size - offset);
  const extents = (await storage.extents?.(offset, length)) ?? [];
  const part = (from: number, to: number, zero: boolean): MapEntry => {
    const start = entry.start + (from - offset);
    return { ...entry, start, length: to - from, offset: from, zero };
  };
  const parts = extents.map((e) => part(e.offset, e.offset + e.length, !e.data));
  const end = offset + (extents.length === 0 ? 0 : length);
  if (end < offset + entry.length) parts.push(part(end, offset + entry.length, extents.length > 0));
  return parts;
}

function describe(plan: Plan, i: number): MapEntry {
  const kind = plan.kind[i]!;
  const entry: MapEntry = {
    start: plan.guest[i]!,
    length: plan.length[i]!,
    depth: plan.layer[i]!,
    present: !isUnallocated(kind),
    zero: kind !== RUN_DATA && kind !== RUN_COMPRESSED,
    data: kind === RUN_DATA || kind === RUN_COMPRESSED,
    compressed: kind === RUN_COMPRESSED,
  };
  if (hasPlace(kind)) entry.offset = plan.host[i]!;
  return entry;
}

function joins(a: MapEntry, b: MapEntry): boolean {
  const offset = a.offset === undefined ? undefined : a.offset + a.length;
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    offset === b.offset
  );
}
