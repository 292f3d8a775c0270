import { createCipheriv, createDecipheriv, createHash, pbkdf2Sync } from 'node:crypto';
import { expect } from 'vitest';
import {
  encodeLuksHeader,
  keyMaterialBytes,
  LUKS_SLOT_ACTIVE,
  type LuksKeySlot,
  luksText,
  parseLuksHeader,
  validateLuksHeader,
} from '../../src/format/luks-header.ts';
import { fromHex, toHex, type Vector, vectorById } from './vector.ts';

/** A sector number as IV or tweak: 64-bit little-endian, zero padded to 16 bytes. */
function plain64(sector: number): Uint8Array {
  const iv = new Uint8Array(16);
  new DataView(iv.buffer).setBigUint64(0, BigInt(sector), true);
  return iv;
}

/** Deciphers the whole 16-byte blocks of a sector's beginning. */
function decipher(name: string, key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): string {
  const cipher = createDecipheriv(name, key, iv).setAutoPadding(false);
  return toHex(Buffer.concat([cipher.update(bytes), cipher.final()]));
}

/** Key and IV follow from passphrase and guest offset (format section 14, method 1). */
export function verifyAesSector(vector: Vector): void {
  const { passphrase, key, iv, guest_offset, plain } = vector.decoded;
  const made = new Uint8Array(16);
  made.set(new TextEncoder().encode(passphrase).subarray(0, 16));
  const sector = plain64(Number(guest_offset) / 512);
  expect(toHex(made)).toBe(key);
  expect(toHex(sector)).toBe(iv);
  expect(decipher('aes-128-cbc', made, sector, fromHex(vector.hex))).toBe(plain);
}

function recordedSlot(slot: LuksKeySlot): Record<string, unknown> {
  return {
    active: slot.active === LUKS_SLOT_ACTIVE,
    iterations: slot.iterations,
    salt: toHex(slot.salt),
    key_material_offset_sectors: slot.keyMaterialOffset,
    stripes: slot.stripes,
  };
}

export function verifyLuksHeader(vector: Vector): void {
  const header = parseLuksHeader(fromHex(vector.hex));
  validateLuksHeader(header, header.payloadOffset * 512);
  expect({
    magic: '4c554b53babe',
    version: header.version,
    cipher_name: luksText(header.cipherName),
    cipher_mode: luksText(header.cipherMode),
    hash_spec: luksText(header.hashSpec),
    payload_offset_sectors: header.payloadOffset,
    key_bytes: header.keyBytes,
    mk_digest: toHex(header.mkDigest),
    mk_digest_salt: toHex(header.mkDigestSalt),
    mk_digest_iterations: header.mkDigestIterations,
    uuid: luksText(header.uuid),
    slots: header.slots.map(recordedSlot),
  }).toEqual(vector.decoded);
  expect(keyMaterialBytes(header)).toBe(64 * 4000);
  expect(toHex(encodeLuksHeader(header))).toBe(vector.hex);
}

/** Slot 0 of the recorded header derives the key that deciphers its material. */
export function verifyLuksKeyMaterial(vector: Vector): void {
  const { passphrase, derived_key, tweak_sector, plain, master_key } = vector.decoded;
  const recorded = vectorById('luks-header');
  const header = parseLuksHeader(fromHex(recorded.hex));
  const [slot] = header.slots as [LuksKeySlot];
  expect(Number(recorded.file_offset) + slot.keyMaterialOffset * 512).toBe(
    Number(vector.file_offset),
  );
  const hash = luksText(header.hashSpec);
  const key = pbkdf2Sync(passphrase, slot.salt, slot.iterations, header.keyBytes, hash);
  expect(toHex(key)).toBe(derived_key);
  expect(decipher('aes-256-xts', key, plain64(tweak_sector), fromHex(vector.hex))).toBe(plain);
  const { mkDigestSalt, mkDigestIterations, mkDigest } = header;
  const digest = pbkdf2Sync(fromHex(master_key), mkDigestSalt, mkDigestIterations, 20, hash);
  expect(toHex(digest)).toBe(toHex(mkDigest));
}

/** The tweak is the host sector, not the guest's. */
export function verifyLuksXtsSector(vector: Vector): void {
  const { master_key, tweak_sector, host_offset, plain } = vector.decoded;
  const sector = Number(host_offset) / 512;
  expect(sector).toBe(tweak_sector);
  const text = decipher('aes-256-xts', fromHex(master_key), plain64(sector), fromHex(vector.hex));
  expect(text).toBe(plain);
}

/** The IV is the host sector enciphered with the hash of the master key. */
export function verifyLuksEssivSector(vector: Vector): void {
  const { master_key, essiv_key, sector, iv, host_offset, plain } = vector.decoded;
  const essivKey = createHash('sha256').update(fromHex(master_key)).digest();
  expect(toHex(essivKey)).toBe(essiv_key);
  expect(Number(host_offset) / 512).toBe(sector);
  const cipher = createCipheriv('aes-256-ecb', essivKey, null).setAutoPadding(false);
  const made = cipher.update(plain64(sector));
  expect(toHex(made)).toBe(iv);
  expect(decipher('aes-256-cbc', fromHex(master_key), made, fromHex(vector.hex))).toBe(plain);
}
