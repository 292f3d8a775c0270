import { expect } from 'vitest';
import {
  encodeFeatureNames,
  FEATURE_NAMES,
  parseFeatureNames,
} from '../../src/format/feature-bits.ts';
import { specName } from '../../src/format/fields.ts';
import {
  encodeHeader,
  HEADER_V2_BYTES,
  type Header,
  parseHeader,
  QCOW2_MAGIC,
  validateHeader,
} from '../../src/format/header.ts';
import { readBackingFileName } from '../../src/format/header-cluster.ts';
import {
  encodeHeaderExtension,
  type HeaderExtension,
  parseHeaderExtensions,
} from '../../src/format/header-extensions.ts';
import { contextOf, fromHex, toHex, type Vector } from './vector.ts';

/** Values the way the vectors record them: offsets and feature words as hexadecimal strings. */
function recorded(header: Header): Record<string, number | string> {
  const { unknownFields: _, ...fields } = header;
  const isWord = (key: string) => /Offset|Features|^size$/.test(key);
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      specName(key),
      isWord(key) ? `0x${value.toString(16)}` : Number(value),
    ]),
  );
}

export function verifyHeader(vector: Vector): void {
  const bytes = fromHex(vector.hex);
  const header = parseHeader(bytes);
  const { implied, magic, ...rest } = vector.decoded;
  expect(Number(magic)).toBe(QCOW2_MAGIC);
  expect(recorded(header)).toEqual({ ...rest, ...implied });
  expect(toHex(encodeHeader(header))).toBe(vector.hex);
  const geometry = validateHeader(header, Number.MAX_SAFE_INTEGER);
  const context = contextOf(vector);
  expect(geometry).toEqual(context.geometry);
  expect(header.version).toBe(context.version);
}

/** A first cluster that holds one extension right behind a version 2 header. */
function clusterWith(extension: Uint8Array): { bytes: Uint8Array; header: Header } {
  const bytes = new Uint8Array(HEADER_V2_BYTES + extension.length);
  bytes.set(extension, HEADER_V2_BYTES);
  const header = {
    headerLength: HEADER_V2_BYTES,
    clusterBits: 16,
    backingFileOffset: 0,
  } as Header;
  return { bytes, header };
}

export function verifyHeaderExtension(vector: Vector): void {
  const bytes = fromHex(vector.hex);
  const cluster = clusterWith(bytes);
  const extensions = parseHeaderExtensions(cluster.bytes, cluster.header);
  expect(bytes.length).toBe(vector.decoded.padded_size);
  if (Number(vector.decoded.type) === 0) {
    expect(extensions).toEqual([]);
    return;
  }
  expect(extensions).toHaveLength(1);
  const [extension] = extensions as [HeaderExtension];
  expect(extension.type).toBe(Number(vector.decoded.type));
  expect(extension.data).toHaveLength(vector.decoded.data_length);
  expect(toHex(encodeHeaderExtension(extension))).toBe(vector.hex);
  verifyReading(extension, vector.decoded);
}

function verifyReading(extension: HeaderExtension, decoded: Vector['decoded']): void {
  switch (extension.kind) {
    case 'backing-format':
      expect(extension.format.text).toBe(decoded.string);
      break;
    case 'data-file-name':
      expect(extension.name.text).toBe(decoded.string);
      break;
    case 'feature-names':
      expect(extension.rows).toEqual(FEATURE_NAMES);
      expect(extension.rows).toHaveLength(decoded.rows);
      break;
    case 'bitmaps':
      expect(extension.pointer).toEqual({
        nbBitmaps: decoded.nb_bitmaps,
        reserved: decoded.reserved32,
        bitmapDirectorySize: Number(decoded.bitmap_directory_size),
        bitmapDirectoryOffset: Number(decoded.bitmap_directory_offset),
      });
      break;
    case 'encryption-pointer':
      expect(extension.pointer).toEqual({
        offset: Number(decoded.luks_offset),
        length: Number(decoded.luks_length),
      });
      break;
    case 'unknown':
      expect(toHex(extension.data)).toBe(decoded.data);
      break;
  }
}

export function verifyFeatureNameRow(vector: Vector): void {
  const rows = parseFeatureNames(fromHex(vector.hex));
  expect(rows).toEqual([FEATURE_NAMES[vector.context.row ?? -1]]);
  const [row] = rows;
  const { feature_type: type, bit, name } = vector.decoded;
  expect({ type: row?.type, bit: row?.bit, name: row?.name.text }).toEqual({ type, bit, name });
  expect(toHex(encodeFeatureNames(rows))).toBe(vector.hex);
}

export function verifyBackingFileName(vector: Vector): void {
  const at = Number(vector.file_offset);
  const name = fromHex(vector.hex);
  const bytes = new Uint8Array(at + name.length);
  bytes.set(name, at);
  const header = { backingFileOffset: at, backingFileSize: name.length } as Header;
  const read = readBackingFileName(bytes, header);
  expect(read?.text).toBe(vector.decoded.string);
  expect(toHex(read?.raw ?? new Uint8Array())).toBe(vector.hex);
}
