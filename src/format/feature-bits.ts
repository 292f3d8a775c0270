import { decodeName, type Name, nameOf } from './fields.ts';

/** Incompatible feature bits (format section 4): a reader that does not know one must not open. */
export const INCOMPATIBLE_DIRTY = 1n << 0n;
export const INCOMPATIBLE_CORRUPT = 1n << 1n;
export const INCOMPATIBLE_DATA_FILE = 1n << 2n;
export const INCOMPATIBLE_COMPRESSION_TYPE = 1n << 3n;
export const INCOMPATIBLE_EXTENDED_L2 = 1n << 4n;

/** Compatible feature bits: unknown ones are harmless and kept. */
export const COMPATIBLE_LAZY_REFCOUNTS = 1n << 0n;

/** Autoclear feature bits: a writer clears those it does not maintain before its first write. */
export const AUTOCLEAR_BITMAPS = 1n << 0n;
export const AUTOCLEAR_RAW_DATA_FILE = 1n << 1n;

/** The three feature words, by the `type` byte of a feature name row. */
export const FEATURE_INCOMPATIBLE = 0;
export const FEATURE_COMPATIBLE = 1;
export const FEATURE_AUTOCLEAR = 2;

/** Bytes of one row of the feature name table, and of the name in it. */
export const FEATURE_ROW_BYTES = 48;
export const FEATURE_NAME_BYTES = 46;

/** A row of the feature name table: display text for one bit of one feature word. */
export interface FeatureName {
  /** 0 incompatible, 1 compatible, 2 autoclear; others are kept and mean nothing. */
  readonly type: number;
  /** Bit number, 0 to 63. */
  readonly bit: number;
  /** Up to 46 bytes, without the zero padding. */
  readonly name: Name;
}

/** The rows a writer puts into an image, in the order QEMU uses (format section 5). */
export const FEATURE_NAMES: readonly FeatureName[] = (
  [
    [FEATURE_INCOMPATIBLE, 0, 'dirty bit'],
    [FEATURE_INCOMPATIBLE, 1, 'corrupt bit'],
    [FEATURE_INCOMPATIBLE, 2, 'external data file'],
    [FEATURE_INCOMPATIBLE, 3, 'compression type'],
    [FEATURE_INCOMPATIBLE, 4, 'extended L2 entries'],
    [FEATURE_COMPATIBLE, 0, 'lazy refcounts'],
    [FEATURE_AUTOCLEAR, 0, 'bitmaps'],
    [FEATURE_AUTOCLEAR, 1, 'raw external data'],
  ] as const
).map(([type, bit, name]) => ({ type, bit, name: nameOf(name) }));

/** The bits of one feature word this package knows: those that have a row in `FEATURE_NAMES`. */
function knownBits(type: number): bigint {
  return FEATURE_NAMES.filter((row) => row.type === type).reduce(
    (bits, row) => bits | (1n << BigInt(row.bit)),
    0n,
  );
}

/** All known bits of each feature word. */
export const KNOWN_INCOMPATIBLE = knownBits(FEATURE_INCOMPATIBLE);
export const KNOWN_COMPATIBLE = knownBits(FEATURE_COMPATIBLE);
export const KNOWN_AUTOCLEAR = knownBits(FEATURE_AUTOCLEAR);

/**
 * Names the incompatible bits of a header that this package does not know, in bit order: the text
 * from the image's own feature name table where it has one, else "bit N".
 */
export function unknownIncompatible(
  header: { readonly incompatibleFeatures: bigint },
  featureNames: readonly FeatureName[] = [],
): string[] {
  const unknown = header.incompatibleFeatures & ~KNOWN_INCOMPATIBLE;
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((unknown >> BigInt(bit)) & 1n) === 0n) continue;
    const row = featureNames.find((r) => r.type === FEATURE_INCOMPATIBLE && r.bit === bit);
    names.push(row !== undefined && row.name.text !== '' ? row.name.text : `bit ${bit}`);
  }
  return names;
}

/**
 * Reads the rows of a feature name table; a short last row counts as zero-padded. The table ends at
 * the first row with an empty name. Never throws: the table is display text only.
 */
export function parseFeatureNames(data: Uint8Array): FeatureName[] {
  const rows: FeatureName[] = [];
  for (let at = 0; at < data.length; at += FEATURE_ROW_BYTES) {
    const row = data.subarray(at, at + FEATURE_ROW_BYTES);
    const padded = row.subarray(2);
    const end = padded.indexOf(0);
    const raw = end < 0 ? padded : padded.subarray(0, end);
    if (raw.length === 0) break;
    rows.push({ type: row[0] ?? 0, bit: row[1] ?? 0, name: decodeName(raw) });
  }
  return rows;
}

/** Writes rows of a feature name table; names beyond 46 bytes are cut, as they are display text. */
export function encodeFeatureNames(rows: readonly FeatureName[]): Uint8Array {
  const data = new Uint8Array(rows.length * FEATURE_ROW_BYTES);
  rows.forEach((row, index) => {
    const at = index * FEATURE_ROW_BYTES;
    data[at] = row.type;
    data[at + 1] = row.bit;
    data.set(row.name.raw.subarray(0, FEATURE_NAME_BYTES), at + 2);
  });
  return data;
}
