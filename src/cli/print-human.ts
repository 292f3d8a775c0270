import { printable } from '../errors.ts';
import type { ImageInfo, Qcow2Info, SnapshotInfo } from '../operations/info.ts';
import type { MapEntry } from '../operations/map.ts';
import { isList, type JsonValue } from './json-text.ts';
import { formatSpecificObject } from './print-json.ts';

/** Text of `info` for one image. */
export function infoText(info: ImageInfo): string {
  const lines = [
    `image: ${printable(info.filename)}`,
    `file format: ${info.format}`,
    `virtual size: ${sizeText(info.virtualSize)} (${info.virtualSize} bytes)`,
    `disk size: ${info.actualSize === undefined ? 'unavailable' : sizeText(info.actualSize)}`,
  ];
  if (info.encrypted) lines.push('encrypted: yes');
  if (info.clusterSize !== undefined) lines.push(`cluster_size: ${info.clusterSize}`);
  if (info.dirtyFlag) lines.push('cleanly shut down: no');
  lines.push(...backingLines(info));
  // Lists from a file can be long: they are no arguments of a call.
  const snapshots = info.snapshots.length > 0 ? snapshotTable(info.snapshots) : [];
  if (snapshots.length > 0) lines.push('Snapshot list:');
  const specific = info.formatSpecific ? specificLines(info.formatSpecific) : [];
  return `${[...lines, ...snapshots, ...specific].join('\n')}\n`;
}

function specificLines(specific: Qcow2Info): string[] {
  const lines = treeLines(formatSpecificObject(specific), '    ');
  return ['Format specific information:', ...lines];
}

function backingLines(info: ImageInfo): string[] {
  const { backingFilename, fullBackingFilename, backingFilenameFormat } = info;
  if (backingFilename === undefined) return [];
  const moved = fullBackingFilename !== undefined && fullBackingFilename !== backingFilename;
  const where = moved ? ` (actual path: ${printable(fullBackingFilename)})` : '';
  const lines = [`backing file: ${printable(backingFilename)}${where}`];
  if (backingFilenameFormat !== undefined) {
    lines.push(`backing file format: ${printable(backingFilenameFormat)}`);
  }
  return lines;
}

/** Heading and rows of a snapshot list. Times are local. */
export function snapshotTable(snapshots: readonly SnapshotInfo[]): string[] {
  const rows = snapshots.map((snapshot) =>
    snapshotRow(
      printable(snapshot.id),
      printable(snapshot.name),
      sizeText(snapshot.vmStateSize),
      localTime(snapshot.dateSec),
      clockText(snapshot),
      snapshot.icount === undefined ? '' : String(snapshot.icount),
    ),
  );
  return [snapshotRow('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'), ...rows];
}

function snapshotRow(
  id: string,
  tag: string,
  size: string,
  date: string,
  clock: string,
  icount: string,
): string {
  return (
    `${padBytes(id, 9)} ${padBytes(tag, 16)} ${size.padStart(8)}` +
    `${date.padStart(20)}${clock.padStart(13)}${icount.padStart(11)}`
  );
}

/** Columns of qemu-img are counted in bytes. */
function padBytes(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - Buffer.byteLength(text)));
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}

function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = [date.getFullYear(), twoDigits(date.getMonth() + 1), twoDigits(date.getDate())];
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits);
  return `${day.join('-')} ${time.join(':')}`;
}

function clockText({ vmClockSec, vmClockNsec }: SnapshotInfo): string {
  const hours = twoDigits(Math.floor(vmClockSec / 3600));
  const minutes = twoDigits(Math.floor(vmClockSec / 60) % 60);
  const milliseconds = String(Math.floor(vmClockNsec / 1e6)).padStart(3, '0');
  return `${hours}:${minutes}:${twoDigits(vmClockSec % 60)}.${milliseconds}`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/**
 * A size with three significant digits in the smallest unit that leaves less than 1000 of it. A tie is
 * rounded to the even digit, as C does.
 */
export function sizeText(bytes: number): string {
  let unit = 0;
  while (bytes / 1024 ** unit >= 1000) unit++;
  const value = bytes / 1024 ** unit;
  const decimals = value >= 100 || unit === 0 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  const scaled = BigInt(bytes) * 10n ** BigInt(decimals);
  const divisor = 1024n ** BigInt(unit);
  let digits = scaled / divisor;
  const twiceRest = (scaled % divisor) * 2n;
  if (twiceRest > divisor || (twiceRest === divisor && digits % 2n === 1n)) digits++;
  const rounded = Number(digits) / 10 ** decimals;
  return `${rounded === 1000 ? '1e+03' : rounded} ${UNITS[unit]}`;
}

/** Objects and lists as indented lines, with dashes of the keys as spaces. */
function treeLines(value: JsonValue, indent: string): string[] {
  const members = isList(value)
    ? value.map((item, i): [string, JsonValue] => [`[${i}]`, item])
    : Object.entries(value as { readonly [key: string]: JsonValue });
  return members.flatMap(([key, member]) => {
    if (member === undefined) return [];
    const label = `${indent}${key.replaceAll('-', ' ')}:`;
    if (typeof member === 'object') return [label, ...treeLines(member, `${indent}    `)];
    return [`${label} ${printable(String(member))}`];
  });
}

const MAP_COLUMN = 16;

/** First line of `map`. */
export const MAP_HEADING = mapRow('Offset', 'Length', 'Mapped to', 'File');

function mapRow(...[start, length, offset, file]: [string, string, string, string]): string {
  return [start, length, offset].map((text) => text.padEnd(MAP_COLUMN)).join('') + file;
}

/** `%#x`: zero has no prefix. */
function hexText(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}

/** One line of `map`, for a range whose data stand at an offset of a file. */
export function mapEntryText(entry: MapEntry & { offset: number; file: string }): string {
  const { start, length, offset, file } = entry;
  return mapRow(hexText(start), hexText(length), hexText(offset), printable(file));
}
