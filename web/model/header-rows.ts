import { hex } from '../../src/errors.ts';
import {
  FEATURE_AUTOCLEAR,
  FEATURE_COMPATIBLE,
  FEATURE_INCOMPATIBLE,
  FEATURE_NAMES,
} from '../../src/format/feature-bits.ts';
import { specName } from '../../src/format/fields.ts';
import {
  HEADER_FIELDS,
  HEADER_V3_FIELDS,
  type Header,
  QCOW2_MAGIC,
} from '../../src/format/header.ts';
import { findExtension, type HeaderExtension } from '../../src/format/header-extensions.ts';
import type { Metadata } from '../../src/image/metadata.ts';
import { hexBytes, sizeText } from './sizes.ts';

/** A field of a structure: where it is, what is stored, what that means. */
export interface FieldRow {
  /** First byte in the structure. */
  readonly offset: number;
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
}

/** A feature bit that is set, or that could be. */
export interface FeatureRow {
  readonly word: 'incompatible' | 'compatible' | 'autoclear';
  readonly bit: number;
  readonly name: string;
  readonly isSet: boolean;
  /** Whether this library knows it. */
  readonly isKnown: boolean;
}

/** A header extension. */
export interface ExtensionRow {
  readonly type: string;
  readonly name: string;
  readonly length: number;
  /** What it says, a line each. */
  readonly lines: readonly string[];
  /** Its bytes in hexadecimal, where nothing better can be said. */
  readonly bytes?: string;
}

const ENCRYPTION = ['none', 'AES', 'LUKS'];
const COMPRESSION = ['deflate (zlib)', 'zstd'];
/** Bytes of an unknown extension that are shown. */
const SHOWN_BYTES = 1024;
/** Extensions, and rows of a feature name table, that are shown. */
const SHOWN_ROWS = 200;

/** All fields of a header, in the order of the file. */
export function headerRows(header: Header): FieldRow[] {
  const fields = header.version === 2 ? HEADER_FIELDS : { ...HEADER_FIELDS, ...HEADER_V3_FIELDS };
  const values: Record<string, unknown> = { ...header, magic: QCOW2_MAGIC };
  const rows = Object.entries(fields).map(([key, [offset]]): FieldRow => {
    const stored = values[key] as number | bigint;
    const isHex = typeof stored === 'bigint' || key === 'magic' || key.endsWith('Offset');
    const value = isHex ? hex(stored) : String(stored);
    return { offset, name: specName(key), value, meaning: meaningOf(key, header) };
  });
  if (header.headerLength > 104)
    rows.push({
      offset: 104,
      name: 'compression_type',
      value: String(header.compressionType),
      meaning: COMPRESSION[header.compressionType] ?? 'unknown',
    });
  if (header.unknownFields.length > 0)
    rows.push({
      offset: 112,
      name: 'fields of later versions',
      value: `${header.unknownFields.length} bytes`,
      meaning: hexBytes(header.unknownFields.subarray(0, SHOWN_BYTES)),
    });
  return rows;
}

function meaningOf(key: string, header: Header): string {
  const meanings: Readonly<Record<string, () => string>> = {
    magic: () => 'QFI\\xfb',
    version: () => `compat ${header.version === 2 ? '0.10' : '1.1'}`,
    backingFileOffset: () => (header.backingFileOffset === 0 ? 'no backing file' : 'of its name'),
    clusterBits: () => `clusters of ${sizeText(2 ** header.clusterBits)}`,
    size: () => sizeText(header.size),
    cryptMethod: () => ENCRYPTION[header.cryptMethod] ?? 'unknown',
    l1Size: () => 'entries of the L1 table',
    refcountTableClusters: () => sizeText(header.refcountTableClusters * 2 ** header.clusterBits),
    nbSnapshots: () => 'internal snapshots',
    refcountOrder: () => `counters of ${2 ** header.refcountOrder} bits`,
    headerLength: () => 'bytes',
  };
  return meanings[key]?.() ?? '';
}

const WORDS = [
  ['incompatible', FEATURE_INCOMPATIBLE, 'incompatibleFeatures'],
  ['compatible', FEATURE_COMPATIBLE, 'compatibleFeatures'],
  ['autoclear', FEATURE_AUTOCLEAR, 'autoclearFeatures'],
] as const;

/** The feature bits known here, set or not, and any others that are set, with the image's names for them. */
export function featureRows({ header, extensions }: Metadata): FeatureRow[] {
  if (header.version === 2) return [];
  const named = findExtension(extensions, 'feature-names')?.rows ?? [];
  return WORDS.flatMap(([word, type, key]) => {
    const rows: FeatureRow[] = [];
    for (let bit = 0; bit < 64; bit++) {
      const known = FEATURE_NAMES.find((row) => row.type === type && row.bit === bit);
      const isSet = ((header[key] >> BigInt(bit)) & 1n) === 1n;
      if (known === undefined && !isSet) continue;
      const own = named.find((row) => row.type === type && row.bit === bit);
      const name = known?.name.text ?? own?.name.text ?? 'unknown';
      rows.push({ word, bit, name, isSet, isKnown: known !== undefined });
    }
    return rows;
  });
}

/** The extensions, in the order of the file; a header cluster has room for more than can be shown. */
export function extensionRows(extensions: readonly HeaderExtension[]): ExtensionRow[] {
  return extensions.slice(0, SHOWN_ROWS).map((extension) => {
    const { type, data, kind } = extension;
    const base = { type: `0x${type.toString(16).padStart(8, '0')}`, length: data.length };
    if (kind !== 'unknown') {
      const name = kind.replaceAll('-', ' ');
      return { ...base, name, lines: extensionLines(extension) };
    }
    const bytes = hexBytes(data.subarray(0, SHOWN_BYTES), 4);
    return {
      ...base,
      name: 'unknown',
      lines: [],
      bytes: data.length > SHOWN_BYTES ? `${bytes} …` : bytes,
    };
  });
}

function extensionLines(extension: Exclude<HeaderExtension, { kind: 'unknown' }>): string[] {
  switch (extension.kind) {
    case 'backing-format':
      return [extension.format.text];
    case 'data-file-name':
      return [extension.name.text];
    case 'feature-names':
      return extension.rows
        .slice(0, SHOWN_ROWS)
        .map(({ type, bit, name }) => `${WORDS[type]?.[0] ?? `word ${type}`} ${bit}: ${name.text}`);
    case 'bitmaps': {
      const { nbBitmaps, bitmapDirectoryOffset, bitmapDirectorySize } = extension.pointer;
      const directory = `${bitmapDirectorySize} bytes at ${hex(bitmapDirectoryOffset)}`;
      return [`${nbBitmaps} bitmaps, directory: ${directory}`];
    }
    case 'encryption-pointer': {
      const { offset, length } = extension.pointer;
      return [`LUKS header: ${length} bytes at ${hex(offset)}`];
    }
  }
}
