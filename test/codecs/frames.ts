/** Builders of zstd frames, part by part (RFC 8878), for streams no compressor writes. */

export const BLOCK_RAW = 0;
export const BLOCK_RLE = 1;
export const BLOCK_COMPRESSED = 2;

/** Joins byte lists. */
export function bytes(...parts: readonly ArrayLike<number>[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => Array.from(part)));
}

/** `count` little-endian bytes of `value`. */
export function le(value: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor(value / 256 ** i) % 256);
}

/** Magic number, frame header descriptor and the header's other bytes. */
export function header(descriptor: number, ...rest: readonly number[]): number[] {
  return [0x28, 0xb5, 0x2f, 0xfd, descriptor, ...rest];
}

/** Header that tells a content size in four bytes and has no window descriptor. */
export function sizedHeader(size: number): number[] {
  return header(0xa0, ...le(size, 4));
}

/** Header without a content size; the window is `2 ** (10 + exponent)` bytes. */
export function windowHeader(exponent: number): number[] {
  return header(0x00, exponent << 3);
}

/** Header of a block; `size` is the decoded size for raw and RLE, else the stored one. */
export function blockHeader(type: number, size: number, last: boolean): number[] {
  return le((last ? 1 : 0) + type * 2 + size * 8, 3);
}

/** Block of `size` times `value`. */
export function rle(value: number, size: number, last = true): number[] {
  return [...blockHeader(BLOCK_RLE, size, last), value];
}

/** Block that stores `content` as it is. */
export function raw(content: readonly number[], last = true): number[] {
  return [...blockHeader(BLOCK_RAW, content.length, last), ...content];
}

/** Frame to be stepped over, with `length` bytes in it. */
export function skippable(length: number, magic = 0x184d2a53): number[] {
  return [...le(magic, 4), ...le(length, 4), ...new Array<number>(length).fill(0xaa)];
}

/** 512 bytes of 7 with a checksum: `size` told in the header, and not told. */
export const CHECKSUM_FRAMES = {
  sized: '28b52ffd6400014d00001007070100fb2ac0022ec35dc7',
  unsized: '28b52ffd04004d00001007070100fb2ac0022ec35dc7',
} as const;
