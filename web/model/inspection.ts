import { hex } from '../../src/errors.ts';
import { l1Index, l2Index } from '../../src/format/geometry.ts';
import { decodeL1Entry } from '../../src/format/l1-entry.ts';
import {
  decodeExtendedL2Entry,
  decodeL2Entry,
  type ExtendedL2Entry,
  type L2Entry,
  subclusterState,
} from '../../src/format/l2-entry.ts';
import type { Image } from '../../src/image/image.ts';
import type { Metadata } from '../../src/image/metadata.ts';
import { Plan } from '../../src/image/plan.ts';
import {
  RUN_COMPRESSED,
  RUN_DATA,
  RUN_UNALLOCATED,
  RUN_UNALLOCATED_SUBCLUSTER,
  RUN_ZERO_ALLOCATED,
  RUN_ZERO_PLAIN,
} from '../../src/kernel/abi.ts';
import { MissingFile } from './open-files.ts';
import { sizeText } from './sizes.ts';

/** Some bits of an entry and what they say. */
export interface BitRow {
  /** `63`, or `55–9`. */
  readonly bits: string;
  readonly name: string;
  readonly value: string;
  readonly meaning: string;
}

/** An entry of a table: its place and its word. */
export interface TableEntry {
  readonly index: number;
  /** Host offset of the entry itself. */
  readonly at: number;
  /** Its words in hexadecimal. */
  readonly words: readonly string[];
  readonly kind: string;
  /** The rule it breaks. */
  readonly invalid?: string;
  readonly bits: readonly BitRow[];
}

/** What is known of a place on the disk. */
export interface Inspection {
  /** First guest byte of the cluster. */
  readonly guest: number;
  readonly clusterSize: number;
  /** Where its first byte comes from, in a few words. */
  readonly source: string;
  /** Place in that file. */
  readonly host?: number;
  readonly l1?: TableEntry;
  readonly l2?: TableEntry;
  /** With extended L2 entries: a letter for each subcluster. */
  readonly subclusters?: string;
}

const RAW_CLUSTER = 65536;

const KINDS: Readonly<Record<number, string>> = {
  [RUN_UNALLOCATED]: 'stored nowhere, reads as zeros',
  [RUN_UNALLOCATED_SUBCLUSTER]: 'stored nowhere, reads as zeros; a place is reserved',
  [RUN_ZERO_PLAIN]: 'known to be zeros',
  [RUN_ZERO_ALLOCATED]: 'known to be zeros; a place is reserved',
  [RUN_DATA]: 'data',
  [RUN_COMPRESSED]: 'compressed data',
};

/**
 * Looks a guest offset up: where its bytes are, and the entries of the image's own tables that say so.
 * @throws Qcow2Error BAD_ENTRY, TRUNCATED, IO
 */
export async function inspect(image: Image, offset: number): Promise<Inspection> {
  const { metadata } = image;
  const clusterSize = metadata?.geometry.clusterSize ?? RAW_CLUSTER;
  const guest = offset - (offset % clusterSize);
  const entries = metadata === undefined ? {} : await readEntries(image, metadata, guest);
  return { guest, clusterSize, ...(await sourceOf(image, guest, clusterSize)), ...entries };
}

async function sourceOf(
  image: Image,
  guest: number,
  clusterSize: number,
): Promise<Pick<Inspection, 'source' | 'host'>> {
  const plan = new Plan();
  try {
    await image.map(guest, Math.min(image.virtualSize, guest + clusterSize), plan);
  } catch (error) {
    // The entries below it still tell what is wrong.
    return { source: error instanceof Error ? error.message : String(error) };
  }
  const kind = plan.kind[0]!;
  const what = KINDS[kind] ?? '';
  if (kind === RUN_UNALLOCATED || kind === RUN_ZERO_PLAIN) return { source: what };
  const { layers } = await image.chain();
  const depth = plan.layer[0]!;
  const storage = layers[depth]?.layer.dataStorage;
  const name = storage?.name ?? '';
  if (storage instanceof MissingFile) return { source: `in ${name}, which was not given` };
  const stored = kind === RUN_COMPRESSED ? `, up to ${sizeText(plan.aux[0]!)}` : '';
  return {
    source: depth === 0 ? `${what}${stored}` : `${what}${stored}, of ${name}`,
    host: plan.host[0]!,
  };
}

async function readEntries(
  image: Image,
  metadata: Metadata,
  guest: number,
): Promise<Pick<Inspection, 'l1' | 'l2' | 'subclusters'>> {
  const { geometry, header, hasDataFile } = metadata;
  const index = l1Index(guest, geometry);
  const l1At = header.l1TableOffset + index * 8;
  if (index >= header.l1Size) return {};
  const l1Word = (await words(image, l1At, 1))[0]!;
  const entry = decodeL1Entry(l1Word, geometry);
  const l1: TableEntry = {
    index,
    at: l1At,
    words: [wordText(l1Word)],
    kind: entry.l2Offset === 0 ? 'no L2 table' : 'L2 table',
    ...(entry.invalid && { invalid: entry.invalid }),
    bits: [
      copiedRow(entry.copied, 'the L2 table'),
      { bits: '55–9', name: 'l2_offset', value: hex(entry.l2Offset), meaning: 'of the L2 table' },
      ...reservedRow(entry.reservedBits),
    ],
  };
  if (entry.l2Offset === 0 || entry.invalid !== undefined) return { l1 };
  const l2At = entry.l2Offset + l2Index(guest, geometry) * geometry.l2EntrySize;
  const [word = 0n, bitmap = 0n] = await words(image, l2At, geometry.l2EntrySize / 8);
  const context = { geometry, version: header.version, dataFile: hasDataFile, guestOffset: guest };
  const decoded = geometry.extendedL2
    ? decodeExtendedL2Entry(word, bitmap, context)
    : decodeL2Entry(word, context);
  const l2: TableEntry = {
    index: l2Index(guest, geometry),
    at: l2At,
    words: geometry.extendedL2 ? [wordText(word), wordText(bitmap)] : [wordText(word)],
    kind: decoded.kind.replace('-', ', '),
    ...(decoded.invalid && { invalid: decoded.invalid }),
    bits: l2Bits(decoded, metadata),
  };
  if (!('bitmap' in decoded)) return { l1, l2 };
  return { l1, l2, subclusters: subclusterText(decoded) };
}

function l2Bits(entry: L2Entry | ExtendedL2Entry, { geometry }: Metadata): BitRow[] {
  const isCompressed = entry.kind === 'compressed';
  const rows: BitRow[] = [
    copiedRow(entry.copied, 'the cluster'),
    {
      bits: '62',
      name: 'compressed',
      value: isCompressed ? '1' : '0',
      meaning: isCompressed ? 'a stream, not a cluster' : '',
    },
  ];
  if (isCompressed) {
    const split = geometry.compressedOffsetBits;
    const { additionalSectors: sectors, hostOffset, maxBytes } = entry;
    const most = `${sizeText(maxBytes)} at most`;
    rows.push(
      { bits: `61–${split}`, name: 'additional sectors', value: String(sectors), meaning: most },
      {
        bits: `${split - 1}–0`,
        name: 'host offset',
        value: hex(hostOffset),
        meaning: 'of the stream',
      },
    );
  } else {
    const offset = 'hostOffset' in entry ? entry.hostOffset : 0;
    rows.push({
      bits: '55–9',
      name: 'host offset',
      value: hex(offset),
      meaning: offset === 0 && entry.kind !== 'normal' ? 'no cluster' : '',
    });
  }
  if (!isCompressed && !geometry.extendedL2) {
    const isZero = (entry.word & 1n) === 1n;
    rows.push({
      bits: '0',
      name: 'zero',
      value: isZero ? '1' : '0',
      meaning: isZero ? 'reads as zeros' : '',
    });
  }
  if ('bitmap' in entry)
    rows.push(
      {
        bits: '127–96',
        name: 'zero bits',
        value: hex(entry.zeroBits >>> 0),
        meaning: 'one per subcluster',
      },
      {
        bits: '95–64',
        name: 'allocated bits',
        value: hex(entry.allocBits >>> 0),
        meaning: 'one per subcluster',
      },
    );
  return [...rows, ...reservedRow(entry.reservedBits)];
}

function copiedRow(copied: boolean, what: string): BitRow {
  const meaning = copied ? `${what} has one reference` : '';
  return { bits: '63', name: 'copied', value: copied ? '1' : '0', meaning };
}

function reservedRow(bits: bigint): BitRow[] {
  if (bits === 0n) return [];
  return [{ bits: 'others', name: 'reserved', value: hex(bits), meaning: 'should be 0' }];
}

function subclusterText(entry: ExtendedL2Entry): string {
  const letters = { normal: 'D', 'zero-allocated': '0', 'zero-plain': '0' } as const;
  return Array.from({ length: 32 }, (_, i) => {
    const state = subclusterState(entry, i);
    return letters[state as keyof typeof letters] ?? '·';
  }).join('');
}

/** 64-bit words of the image file; zeros behind its end. */
async function words(image: Image, at: number, count: number): Promise<bigint[]> {
  const bytes = new Uint8Array(count * 8);
  await image.storage.read(at, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => view.getBigUint64(i * 8));
}

function wordText(word: bigint): string {
  return word.toString(16).padStart(16, '0');
}
