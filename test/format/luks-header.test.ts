import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeLuksHeader,
  LUKS_HEADER_BYTES,
  type LuksHeader,
  type LuksKeySlot,
  parseLuksHeader,
  validateLuksHeader,
} from '../../src/format/luks-header.ts';
import { fromHex, vectorById } from './vector.ts';

const bytes = fromHex(vectorById('luks-header').hex);
const good = parseLuksHeader(bytes);
const AREA = 2068480;

const withSlot = (index: number, change: Partial<LuksKeySlot>): LuksHeader => ({
  ...good,
  slots: good.slots.map((slot, i) => (i === index ? { ...slot, ...change } : slot)),
});

describe('LUKS header', () => {
  it('needs 592 bytes, magic and version 1', () => {
    expect(LUKS_HEADER_BYTES).toBe(592);
    expect(() => parseLuksHeader(bytes.slice(0, 591))).toThrow(/key slot 7: needs 592 bytes/);
    expect(() => parseLuksHeader(bytes.map((b, i) => (i === 0 ? 0 : b)))).toThrow(/no LUKS magic/);
    expect(() => parseLuksHeader(bytes.map((b, i) => (i === 7 ? 2 : b)))).toThrow(
      /version \(byte 6\) is 2; must be 1/,
    );
  });

  it.each<[string, LuksHeader, RegExp]>([
    ['an unknown slot state', withSlot(3, { active: 1 }), /key slot 3: active \(byte 0\) is 0x1/],
    ['other stripes in an inactive slot', withSlot(5, { stripes: 3999 }), /slot 5: stripes/],
    ['no iterations', withSlot(0, { iterations: 0 }), /iterations \(byte 4\) is 0/],
    ['too many iterations', withSlot(0, { iterations: 1e7 + 1 }), /raise the limit/],
    ['digest iterations', { ...good, mkDigestIterations: 1e7 + 1 }, /mk_digest_iterations is/],
    ['key material on the header', withSlot(0, { keyMaterialOffset: 1 }), /is sector 1;/],
    ['key material past the area', withSlot(0, { keyMaterialOffset: 4040 }), /sector 4040;/],
    ['overlapping material', withSlot(1, { ...good.slots[0], keyMaterialOffset: 9 }), /overlaps/],
    ['no key', { ...good, keyBytes: 0 }, /key_bytes \(byte 108\) is 0; must be 1 to 64/],
    ['a key of 4 GiB', { ...good, keyBytes: 2 ** 32 - 1 }, /must be 1 to 64/],
    ['an endless cipher name', { ...good, cipherName: new Uint8Array(32).fill(97) }, /no termin/],
  ])('refuses %s', (_, header, message) => {
    expect(() => validateLuksHeader(header, AREA)).toThrow(message);
  });

  it('accepts the recorded one, and more iterations when told to', () => {
    expect(() => validateLuksHeader(good, AREA)).not.toThrow();
    expect(() => validateLuksHeader(good, 500)).toThrow(/must have at least 592/);
    const slow = withSlot(0, { iterations: 1e7 + 1 });
    expect(() => validateLuksHeader(slow, AREA, { maxIterations: 2e7 })).not.toThrow();
  });

  it('does not care where inactive slots and the payload would lie', () => {
    const odd = withSlot(2, { keyMaterialOffset: 2 ** 32 - 1 });
    expect(() => validateLuksHeader({ ...odd, payloadOffset: 0 }, AREA)).not.toThrow();
  });

  it('is written whole or not at all', () => {
    expect(() => encodeLuksHeader({ ...good, slots: [] })).toThrow(/must have 8/);
    expect(() => encodeLuksHeader({ ...good, uuid: new Uint8Array(4) })).toThrow(
      /cannot be stored/,
    );
  });

  const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const blob = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const slot = fc.record({
    active: u32,
    iterations: u32,
    salt: blob(32),
    keyMaterialOffset: u32,
    stripes: u32,
  });
  const any = fc.record({
    version: fc.constant(1),
    cipherName: blob(32),
    cipherMode: blob(32),
    hashSpec: blob(32),
    payloadOffset: u32,
    keyBytes: u32,
    mkDigest: blob(20),
    mkDigestSalt: blob(32),
    mkDigestIterations: u32,
    uuid: blob(40),
    slots: fc.array(slot, { minLength: 8, maxLength: 8 }),
  });

  it('round trips', () => {
    fc.assert(
      fc.property(any, (header) => {
        expect(parseLuksHeader(encodeLuksHeader(header))).toEqual(header);
      }),
    );
  });
});
