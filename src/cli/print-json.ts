import type {
  BitmapInfo,
  EncryptionInfo,
  ImageInfo,
  Qcow2Info,
  SnapshotInfo,
} from '../operations/info.ts';
import type { MapEntry } from '../operations/map.ts';
import { type JsonValue, jsonText } from './json-text.ts';

// The keys below stand in the order in which qemu-img prints them.

/** Text of `info --output=json`; a list of images for `--backing-chain`. */
export function infoJson(info: ImageInfo | readonly ImageInfo[]): string {
  const value = 'filename' in info ? imageObject(info) : info.map(imageObject);
  return `${jsonText(value)}\n`;
}

function imageObject(info: ImageInfo): JsonValue {
  const { formatSpecific, snapshots } = info;
  return {
    snapshots: snapshots.length > 0 ? snapshots.map(snapshotObject) : undefined,
    'backing-filename-format': info.backingFilenameFormat,
    'virtual-size': info.virtualSize,
    filename: info.filename,
    'cluster-size': info.clusterSize,
    format: info.format,
    'actual-size': info.actualSize,
    'format-specific': formatSpecific && {
      type: info.format,
      data: formatSpecificObject(formatSpecific),
    },
    'full-backing-filename': info.fullBackingFilename,
    encrypted: info.encrypted ? true : undefined,
    'backing-filename': info.backingFilename,
    'dirty-flag': info.dirtyFlag,
  };
}

function snapshotObject(snapshot: SnapshotInfo): JsonValue {
  return {
    icount: snapshot.icount === undefined ? undefined : BigInt(snapshot.icount),
    'vm-clock-nsec': snapshot.vmClockNsec,
    name: snapshot.name,
    'date-sec': snapshot.dateSec,
    'date-nsec': snapshot.dateNsec,
    'vm-clock-sec': snapshot.vmClockSec,
    id: snapshot.id,
    'vm-state-size': snapshot.vmStateSize,
  };
}

/** What only qcow2 images have; the human output prints the same object. */
export function formatSpecificObject(info: Qcow2Info): { readonly [key: string]: JsonValue } {
  return {
    compat: info.compat,
    'compression-type': info.compressionType,
    'lazy-refcounts': info.lazyRefcounts,
    bitmaps: info.bitmaps.length > 0 ? info.bitmaps.map(bitmapObject) : undefined,
    'refcount-bits': info.refcountBits,
    'data-file': info.dataFile,
    encrypt: info.encrypt && encryptionObject(info.encrypt),
    'data-file-raw': info.dataFileRaw,
    corrupt: info.corrupt,
    'extended-l2': info.extendedL2,
  };
}

function bitmapObject({ flags, name, granularity }: BitmapInfo): JsonValue {
  return { flags, name, granularity };
}

function encryptionObject(info: EncryptionInfo): JsonValue {
  if (info.format === 'aes') return { format: info.format };
  return {
    'ivgen-alg': info.ivgenAlg,
    'hash-alg': info.hashAlg,
    'cipher-alg': info.cipherAlg,
    uuid: info.uuid,
    'ivgen-hash-alg': info.ivgenHashAlg,
    format: info.format,
    'cipher-mode': info.cipherMode,
    slots: info.slots.map((slot) => ({
      active: slot.active,
      iters: slot.iters,
      'key-offset': slot.keyOffset,
      stripes: slot.stripes,
    })),
    'payload-offset': info.payloadOffset,
    'master-key-iters': info.masterKeyIters,
  };
}

/** One range of `map --output=json`, without the list around it. */
export function mapEntryJson(entry: MapEntry): string {
  const offset = entry.offset === undefined ? '' : `, "offset": ${entry.offset}`;
  return (
    `{ "start": ${entry.start}, "length": ${entry.length}, "depth": ${entry.depth}, ` +
    `"present": ${entry.present}, "zero": ${entry.zero}, "data": ${entry.data}${offset}}`
  );
}
