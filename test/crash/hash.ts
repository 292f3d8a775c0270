export const SECTOR_BYTES = 512;

/** A number for the contents of bytes (a multiple of 4, aligned to 4); zeros give 0. 53 bits. */
export function contentOf(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let any = 0;
  let a = 0x9e3779b9;
  let b = 0x7f4a7c15;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    any |= word;
    a = Math.imul(a ^ word, 0x01000193);
    a ^= a >>> 15;
    b = Math.imul(b + word, 0x85ebca6b);
    b ^= b >>> 13;
  }
  return any === 0 ? 0 : (a >>> 0) * 2 ** 21 + ((b >>> 0) & 0x1fffff);
}

/** The contents of each sector of `bytes`, whose last sector may be short. */
export function contentsOf(bytes: Uint8Array): Float64Array {
  const sectors = Math.ceil(bytes.length / SECTOR_BYTES);
  const whole = new Uint8Array(sectors * SECTOR_BYTES);
  whole.set(bytes);
  return Float64Array.from({ length: sectors }, (_, i) =>
    contentOf(whole.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)),
  );
}
