import { Qcow2Error } from '../errors.ts';
import type { Image } from '../image/image.ts';
import { isUnallocated, type Plan, SurveyPlan } from '../image/plan.ts';
import { RUN_COMPRESSED, RUN_DATA, RUN_INVALID } from '../kernel/abi.ts';
import { type OperationControl, pacer } from './control.ts';
import { eachSharedRange } from './shared-ranges.ts';

/**
 * What a part of a disk is, in the order in which one hides another that lies in the same cell.
 * @example
 * import { CELL_KINDS, diskPicture, openImage } from 'qcow2';
 *
 * const image = await openImage('disk.qcow2');
 * const { cells } = await diskPicture(image);
 * console.log(CELL_KINDS[cells[0] ?? 0]); // data
 * await image.close();
 */
export const CELL_KINDS = [
  'unallocated',
  'zero',
  'backing',
  'data',
  'compressed',
  'shared',
  'damaged',
] as const;

/**
 * `unallocated`: stored nowhere; `zero`: known to be zeros; `backing`: stored in a file below; `data` and
 * `compressed`: stored in this image; `shared`: so are internal snapshots, by the same clusters;
 * `damaged`: the entry that says it breaks a rule, so that nothing can be read there.
 */
export type CellKind = (typeof CELL_KINDS)[number];

/** A disk in cells of equal length, for drawing. */
export interface DiskPicture {
  /** Bytes of the disk one cell stands for: a cluster, or a power of two of clusters. */
  cellBytes: number;
  /** Of each cell the index of its kind in `CELL_KINDS`. */
  cells: Uint8Array;
  /** Bytes of the disk of each kind, whatever the cells show; `shared` ones are counted as what they are. */
  bytes: Record<Exclude<CellKind, 'shared'>, number>;
  /** Bytes of the disk in clusters that internal snapshots have, too. */
  sharedBytes: number;
  /** What is wrong with the first entry that breaks a rule; absent: none does. */
  damage?: Qcow2Error;
}

/** How a picture is taken. */
export interface DiskPictureOptions extends Pick<OperationControl, 'signal'> {
  /** Most cells; memory is one byte each. Default 4194304, a cluster each up to 256 GiB. */
  maxCells?: number;
}

const MAX_CELLS = 4 * 1024 * 1024;
/** Of images without clusters. */
const RAW_CELL = 65536;
const WINDOW_BYTES = 2 ** 40;

const ZERO = CELL_KINDS.indexOf('zero');
const BACKING = CELL_KINDS.indexOf('backing');
const DATA = CELL_KINDS.indexOf('data');
const COMPRESSED = CELL_KINDS.indexOf('compressed');
const SHARED = CELL_KINDS.indexOf('shared');
const DAMAGED = CELL_KINDS.indexOf('damaged');

/**
 * What is where on a disk, as a picture needs it: from the tables alone, no guest data is read. Of a damaged
 * image it shows what can be decoded, and where the damage is.
 * @throws Qcow2Error INVALID_ARGUMENT; ABORTED; IO; and those of opening the files below
 * @example
 * import { diskPicture, openImage } from 'qcow2';
 *
 * const image = await openImage('overlay.qcow2');
 * const { cells, cellBytes, bytes } = await diskPicture(image, { maxCells: 4096 });
 * console.log(`${cells.length} cells of ${cellBytes} bytes, ${bytes.backing} bytes in the backing file`);
 * await image.close();
 */
export async function diskPicture(
  image: Image,
  options: DiskPictureOptions = {},
): Promise<DiskPicture> {
  const { maxCells = MAX_CELLS, signal } = options;
  if (!Number.isInteger(maxCells) || maxCells < 1) {
    const text = `a picture of ${maxCells} cells cannot be taken: maxCells must be 1 or more`;
    throw new Qcow2Error('INVALID_ARGUMENT', text, { value: maxCells });
  }
  const size = image.virtualSize;
  const cellBytes = cellLength(size, image.metadata?.geometry.clusterSize ?? RAW_CELL, maxCells);
  const painter = new Painter(cellBytes, new Uint8Array(Math.ceil(size / cellBytes)));
  const step = pacer(signal, 'the picture');
  const plan = new SurveyPlan();
  for (let at = 0; at < size; ) {
    await step();
    at = await image.map(at, Math.min(size, at + WINDOW_BYTES), plan);
    for (let i = 0; i < plan.count; i++)
      painter.paint(kindOf(plan, i), plan.guest[i]!, plan.length[i]!);
  }
  let sharedBytes = 0;
  for await (const { start, length } of eachSharedRange(image, step)) {
    painter.cover(SHARED, start, length);
    sharedBytes += Math.min(length, size - start);
  }
  const { damage } = plan;
  const { cells, bytes } = painter;
  return { cellBytes, cells, bytes, sharedBytes, ...(damage && { damage }) };
}

/** Whole clusters, doubled until the cells are few enough. */
function cellLength(size: number, clusterSize: number, maxCells: number): number {
  let cellBytes = clusterSize;
  while (Math.ceil(size / cellBytes) > maxCells) cellBytes *= 2;
  return cellBytes;
}

function kindOf(plan: Plan, i: number): number {
  const kind = plan.kind[i]!;
  if (kind === RUN_INVALID) return DAMAGED;
  if (kind === RUN_DATA || kind === RUN_COMPRESSED) {
    if (plan.layer[i] !== 0) return BACKING;
    return kind === RUN_DATA ? DATA : COMPRESSED;
  }
  return isUnallocated(kind) ? 0 : ZERO;
}

class Painter {
  readonly cells: Uint8Array;
  readonly bytes: DiskPicture['bytes'] = {
    unallocated: 0,
    zero: 0,
    backing: 0,
    data: 0,
    compressed: 0,
    damaged: 0,
  };
  readonly #cellBytes: number;

  constructor(cellBytes: number, cells: Uint8Array) {
    this.#cellBytes = cellBytes;
    this.cells = cells;
  }

  /** A range that has not been painted yet. */
  paint(kind: number, start: number, length: number): void {
    this.bytes[CELL_KINDS[kind] as keyof DiskPicture['bytes']] += length;
    const first = Math.floor(start / this.#cellBytes);
    const end = Math.ceil((start + length) / this.#cellBytes);
    // Only the cells at both ends can have something else in them already.
    this.#cover(first, kind);
    if (end - first > 2) this.cells.fill(kind, first + 1, end - 1);
    if (end - first > 1) this.#cover(end - 1, kind);
  }

  /** A range in whole clusters, over what has been painted there. */
  cover(kind: number, start: number, length: number): void {
    const end = Math.min(this.cells.length, Math.ceil((start + length) / this.#cellBytes));
    for (let i = Math.floor(start / this.#cellBytes); i < end; i++) this.#cover(i, kind);
  }

  #cover(i: number, kind: number): void {
    if (kind > this.cells[i]!) this.cells[i] = kind;
  }
}
