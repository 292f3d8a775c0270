import { parseBitmapDirectory } from '../../src/format/bitmap-directory.ts';
import { decodeCompressedDescriptor } from '../../src/format/compressed-descriptor.ts';
import { viewOf } from '../../src/format/fields.ts';
import { type Geometry, geometryOf } from '../../src/format/geometry.ts';
import {
  HEADER_FIELDS,
  HEADER_V3_FIELDS,
  type Header,
  parseHeader,
} from '../../src/format/header.ts';
import { findExtension, parseHeaderExtensions } from '../../src/format/header-extensions.ts';
import { L1_OFFSET_MASK } from '../../src/format/l1-entry.ts';
import { L2_COMPRESSED } from '../../src/format/l2-entry.ts';
import { LUKS_HEADER_BYTES } from '../../src/format/luks-header.ts';
import { measureSnapshotTable } from '../../src/format/snapshot-table.ts';

/** A place in an image worth changing: words of some width, one after the other. */
export interface Region {
  readonly name: string;
  readonly at: number;
  /** Bytes of a word: 1, 2, 4 or 8. */
  readonly width: 1 | 2 | 4 | 8;
  readonly words: number;
  /** How often it is picked, relative to the others. */
  readonly weight: number;
}

const WIDTHS = { u8: 1, u16: 2, u32: 4, u64: 8, n64: 8 } as const;

/** The structures of a valid image (format sections 3 to 14). */
export function regionsOf(bytes: Uint8Array): Region[] {
  const header = parseHeader(bytes);
  const geometry = geometryOf(header);
  const { l1TableOffset, l1Size, refcountTableOffset } = header;
  const view = viewOf(bytes);
  const regions: Region[] = [
    ...headerFields(header),
    { name: 'extensions', at: header.headerLength, width: 4, words: 24, weight: 6 },
    { name: 'L1', at: l1TableOffset, width: 8, words: l1Size, weight: 8 },
    { name: 'refcount table', at: refcountTableOffset, width: 8, words: 4, weight: 1 },
  ];
  if (header.backingFileOffset > 0) {
    const { backingFileOffset: at, backingFileSize: words } = header;
    regions.push({ name: 'backing name', at, width: 1, words, weight: 4 });
  }
  for (let i = 0; i < l1Size; i++) {
    const l2 = Number(view.getBigUint64(l1TableOffset + i * 8) & L1_OFFSET_MASK);
    if (l2 > 0) regions.push(...l2Regions(view, l2, geometry));
  }
  return [...regions, ...tableRegions(bytes, header, geometry)].filter(
    ({ at, width, words }) => words > 0 && at + width * words <= bytes.length,
  );
}

function headerFields({ version }: Header): Region[] {
  const fields = version === 2 ? HEADER_FIELDS : { ...HEADER_FIELDS, ...HEADER_V3_FIELDS };
  return Object.entries(fields)
    .slice(1)
    .map(([name, [at, type]]) => ({ name, at, width: WIDTHS[type], words: 1, weight: 2 }));
}

/** The entries up to the last one used and a few more, and the streams they describe. */
function l2Regions(view: DataView, at: number, geometry: Geometry): Region[] {
  const regions: Region[] = [];
  const step = geometry.l2EntrySize;
  let used = 0;
  for (let i = 0; i < geometry.l2Entries && at + (i + 1) * step <= view.byteLength; i++) {
    const word = view.getBigUint64(at + i * step);
    if (word !== 0n) used = i + 1;
    if ((word & L2_COMPRESSED) === 0n) continue;
    const { hostOffset, maxBytes } = decodeCompressedDescriptor(word, geometry);
    const words = Math.min(maxBytes, 200);
    regions.push({ name: `stream of L2[${i}]`, at: hostOffset, width: 1, words, weight: 2 });
  }
  const words = (Math.min(geometry.l2Entries, used + 2) * step) / 8;
  return [{ name: 'L2', at, width: 8, words, weight: 24 }, ...regions.slice(0, 8)];
}

function tableRegions(bytes: Uint8Array, header: Header, geometry: Geometry): Region[] {
  const regions: Region[] = [];
  if (header.nbSnapshots > 0) {
    const at = header.snapshotsOffset;
    const { length } = measureSnapshotTable(bytes.subarray(at), header.nbSnapshots);
    const words = Math.floor(length / 4);
    regions.push({ name: 'snapshot table', at, width: 4, words, weight: 10 });
  }
  const extensions = parseHeaderExtensions(bytes, header);
  const bitmaps = findExtension(extensions, 'bitmaps')?.pointer;
  if (bitmaps) {
    const { bitmapDirectoryOffset: at, bitmapDirectorySize: length } = bitmaps;
    regions.push({ name: 'bitmap directory', at, width: 2, words: length / 2, weight: 10 });
    const directory = bytes.subarray(at, at + length);
    for (const entry of parseBitmapDirectory(directory, bitmaps.nbBitmaps, geometry)) {
      const words = entry.bitmapTableSize;
      regions.push({
        name: 'bitmap table',
        at: entry.bitmapTableOffset,
        width: 8,
        words,
        weight: 1,
      });
    }
  }
  const luks = findExtension(extensions, 'encryption-pointer')?.pointer;
  const words = LUKS_HEADER_BYTES / 4;
  if (luks) regions.push({ name: 'LUKS header', at: luks.offset, width: 4, words, weight: 20 });
  return regions;
}
