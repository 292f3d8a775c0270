// Disk contents for the demo: text, random bytes and zeros in stretches of 4 to 512 KiB, the same on
// every run for the same seed.
import { createCipheriv } from 'node:crypto';

const KIB = 1024;
const WORDS =
  'block cluster table entry offset guest host refcount snapshot image header zero data file'.split(
    ' ',
  );
const ZERO_SHARE = 0.45;
const TEXT_SHARE = 0.35;

/** Random bytes of a seed: the key stream of AES in counter mode. */
function randomBytes(seed, length) {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Lines of numbered words, about three to one for a compressor. */
function text(random, length) {
  const parts = [];
  for (let size = 0, line = 0; size < length; line++) {
    const words = Array.from(
      { length: 9 },
      (_, i) => WORDS[random[(line * 9 + i) % random.length] % WORDS.length],
    );
    const part = `${random.readUInt32LE((line * 4) % (random.length - 4))} ${words.join(' ')}\n`;
    parts.push(part);
    size += part.length;
  }
  return Buffer.from(parts.join('')).subarray(0, length);
}

/** `length` bytes of mixed contents. */
export function makeContents(seed, length) {
  const bytes = Buffer.alloc(length);
  const random = randomBytes(seed, length);
  const prose = text(random.subarray(0, 256 * KIB), 1024 * KIB);
  for (let at = 0, step = 0; at < length; step++) {
    const dice = random.readUInt32LE((step * 8) % (length - 8));
    const size = Math.min(length - at, 4 * KIB * 2 ** (dice % 8));
    const kind = random.readUInt32LE((step * 8 + 4) % (length - 8)) / 2 ** 32;
    if (kind >= ZERO_SHARE + TEXT_SHARE) random.copy(bytes, at, at, at + size);
    else if (kind >= ZERO_SHARE) {
      const from = dice % (prose.length - size);
      prose.copy(bytes, at, from, from + size);
    }
    at += size;
  }
  return bytes;
}

/** What happens to a cluster in {@link changeClusters}. */
export const CHANGES = ['keep', 'keep', 'keep', 'keep', 'replace', 'zero'];

/** A changed copy, and what happened to each cluster: one of {@link CHANGES}. */
export function changeClusters(bytes, clusterSize, seed) {
  const changed = Buffer.from(bytes);
  const fresh = makeContents(seed, bytes.length);
  const dice = randomBytes(seed + 1, Math.ceil(bytes.length / clusterSize));
  const changes = Array.from(dice, (value) => CHANGES[value % CHANGES.length]);
  changes.forEach((change, index) => {
    const from = index * clusterSize;
    const to = Math.min(from + clusterSize, bytes.length);
    if (change === 'replace') fresh.copy(changed, from, from, to);
    if (change === 'zero') changed.fill(0, from, to);
  });
  return { bytes: changed, changes };
}
