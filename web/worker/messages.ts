import type { DiskPicture as Picture } from '../../src/operations/disk-picture.ts';
import type { ImageInfo } from '../../src/operations/info.ts';
import type { FilePicture } from '../model/file-picture.ts';
import type { PlacedCheck } from '../model/findings.ts';
import type { Grid } from '../model/grid.ts';
import type { ExtensionRow, FeatureRow, FieldRow } from '../model/header-rows.ts';
import type { Inspection } from '../model/inspection.ts';
import type { ChainFile } from '../model/open-files.ts';
import type { PartitionTable } from '../model/partitions.ts';
import type { Statistics } from '../model/statistics.ts';

/** A file a person gave: picked, or by its URL. */
export interface Given {
  readonly source: File | string;
  /** The name an image has for it, if it was given for just that. */
  readonly as?: string;
}

/** The first entry of an image that breaks a rule. */
export interface Damage {
  readonly message: string;
  /** First guest byte it is about. */
  readonly guest?: number;
}

/** A picture of a disk, as it is sent. */
export interface DiskPicture extends Omit<Picture, 'damage'> {
  readonly damage?: Damage;
}

/** What was opened. */
export interface Opened {
  readonly name: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtualSize: number;
  readonly fileSize: number;
  /** Absent for raw images. */
  readonly clusterSize?: number;
  readonly chain: readonly ChainFile[];
  readonly unused: readonly string[];
  readonly header: readonly FieldRow[];
  readonly features: readonly FeatureRow[];
  readonly extensions: readonly ExtensionRow[];
}

/** A picture, laid out for drawing; its cells are in the grid. */
export type Laid<P extends { cells: Uint8Array }> = Omit<P, 'cells'> & { readonly grid: Grid };

/** What a page asks the worker, and what comes back. */
export interface Requests {
  open: { args: { given: readonly Given[] }; result: Opened };
  info: { args: undefined; result: ImageInfo };
  diskPicture: { args: undefined; result: Laid<DiskPicture> };
  filePicture: { args: undefined; result: Laid<FilePicture> };
  inspect: { args: { offset: number }; result: Inspection };
  /** Guest bytes, or those of the image file; fewer at the end. */
  read: { args: { from: 'disk' | 'file'; offset: number; length: number }; result: Uint8Array };
  partitions: { args: undefined; result: PartitionTable };
  statistics: { args: undefined; result: Statistics };
  check: { args: undefined; result: PlacedCheck };
}

export type RequestName = keyof Requests;

/** From the page. */
export interface Request {
  readonly id: number;
  readonly name: RequestName;
  readonly args: unknown;
}

/** From the worker: the answer to a request, or how far it is. */
export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly message: string } }
  | { readonly id: number; readonly done: number; readonly total: number };
