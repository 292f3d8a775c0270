import type { CellKind } from '../../src/operations/disk-picture.ts';
import { KIND_COLOURS } from '../../src/operations/picture-svg.ts';
import type { FileKind } from '../model/file-picture.ts';

/** What kinds of clusters of a file are called in legends. */
export const FILE_LABELS: Readonly<Record<FileKind, string>> = {
  free: 'free',
  data: 'data',
  compressed: 'compressed data',
  snapshot: 'only in snapshots',
  shared: 'shared with snapshots',
  bitmap: 'bitmaps',
  'snapshot table': 'snapshot table',
  L2: 'L2 tables',
  L1: 'L1 tables',
  refcount: 'refcounts',
  header: 'header',
  leaked: 'leaked',
};

/** Seen on white and on black, where a map ends in the middle of a square. */
const NOTHING = '#8883';

/** Told apart by people who see few colours, too, in light and dark. */
export const DISK_COLOURS: Readonly<Record<CellKind, string>> = {
  ...KIND_COLOURS,
  unallocated: NOTHING,
};

/** The same for what a file holds. */
export const FILE_COLOURS: Readonly<Record<FileKind, string>> = {
  free: NOTHING,
  data: '#0072b2',
  compressed: '#e69f00',
  snapshot: '#56b4e9',
  shared: '#009e73',
  bitmap: '#8a7a2f',
  'snapshot table': '#8c564b',
  L2: '#cc79a7',
  L1: '#8e3b76',
  refcount: '#f0e442',
  header: '#b8a9c9',
  leaked: '#e4002b',
};
