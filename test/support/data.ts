/** Kinds of content: `mixed` alternates the others in runs of 4 to 64 KiB. */
export type Content = 'zero' | 'text' | 'random' | 'mixed';

const WORDS =
  'cluster table entry offset header refcount backing snapshot bitmap guest host sector mapping'.split(
    ' ',
  );

/** A generator of 32-bit numbers that depends on its seed alone (xorshift32). */
function makeRandom(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

function fillRandom(into: Uint8Array, random: () => number): void {
  for (let at = 0; at < into.length; at += 4) {
    const word = random();
    into[at] = word;
    into[at + 1] = word >>> 8;
    into[at + 2] = word >>> 16;
    into[at + 3] = word >>> 24;
  }
}

function fillText(into: Uint8Array, random: () => number): void {
  const encoder = new TextEncoder();
  let at = 0;
  while (at < into.length) {
    const number = random();
    const line = `${WORDS[number % WORDS.length]} ${WORDS[(number >>> 8) % WORDS.length]} ${number}\n`;
    at += encoder.encodeInto(line, into.subarray(at)).written;
  }
}

function fillMixed(into: Uint8Array, random: () => number): void {
  const kinds: readonly Content[] = ['text', 'zero', 'random', 'text', 'zero'];
  let at = 0;
  for (let turn = 0; at < into.length; turn += 1) {
    const length = 4096 * (1 + (random() % 16));
    const part = into.subarray(at, at + length);
    const kind = kinds[turn % kinds.length];
    if (kind === 'text') fillText(part, random);
    else if (kind === 'random') fillRandom(part, random);
    at += length;
  }
}

/** `length` bytes of the given kind; the same arguments always give the same bytes. */
export function makeContent(kind: Content, length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  const random = makeRandom(seed);
  if (kind === 'text') fillText(bytes, random);
  else if (kind === 'random') fillRandom(bytes, random);
  else if (kind === 'mixed') fillMixed(bytes, random);
  return bytes;
}
