// Huffman codes for the compressor: optimal, then cut to a greatest length.

/** Codewords of each length. */
const COUNTS = memory.data(16 << 2, 16);
/** Next codeword of each length. */
const NEXT = memory.data(16 << 2, 16);
/** Frequency << 9 | symbol, ascending. */
const SORTED = memory.data(288 << 2, 16);
/** Inner nodes of the tree in the order they are made: weight, later depth. */
const WEIGHTS = memory.data(288 << 2, 16);
const PARENTS = memory.data(288 << 1, 16);
const LEAVES = memory.data(288, 16);

// @ts-ignore: decorator
@inline
function word(table: usize, index: u32): u32 {
  return load<u32>(table + (<usize>index << 2));
}

// @ts-ignore: decorator
@inline
function setWord(table: usize, index: u32, value: u32): void {
  store<u32>(table + (<usize>index << 2), value);
}

/** Lists the symbols in use, rarest first; their number. */
function sortSymbols(frequencies: usize, count: u32): u32 {
  let used: u32 = 0;
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const frequency = word(frequencies, symbol);
    if (frequency != 0) setWord(SORTED, used++, (frequency << 9) | symbol);
  }
  let gap: u32 = 132;
  while (gap != 0) {
    for (let i = gap; i < used; i++) {
      const key = word(SORTED, i);
      let at = i;
      while (at >= gap && word(SORTED, at - gap) > key) {
        setWord(SORTED, at, word(SORTED, at - gap));
        at -= gap;
      }
      setWord(SORTED, at, key);
    }
    // 132, 57, 23, 10, 4, 1
    gap = gap > 10 ? (gap * 7) >> 4 : gap > 4 ? 4 : gap > 1 ? 1 : 0;
  }
  return used;
}

/** Joins the two lightest of leaves and inner nodes until one is left. */
function buildTree(used: u32): void {
  const inner = used - 1;
  let leaf: u32 = 0;
  let node: u32 = 0;
  for (let made: u32 = 0; made < inner; made++) {
    let weight: u32 = 0;
    let leaves: u32 = 0;
    for (let k = 0; k < 2; k++) {
      const leafWeight = leaf < used ? word(SORTED, leaf) >> 9 : <u32>-1;
      const nodeWeight = node < made ? word(WEIGHTS, node) : <u32>-1;
      if (leafWeight <= nodeWeight) {
        weight += leafWeight;
        leaves++;
        leaf++;
      } else {
        weight += nodeWeight;
        store<u16>(PARENTS + (<usize>node << 1), made);
        node++;
      }
    }
    setWord(WEIGHTS, made, weight);
    store<u8>(LEAVES + made, leaves);
  }
}

/** Counts the leaves at each depth of the tree; those deeper than `limit` move up to it. */
function countLengths(used: u32, limit: u32): void {
  memory.fill(COUNTS, 0, 16 << 2);
  const inner = used - 1;
  let kraft: u32 = 0;
  for (let node = inner; node-- > 0; ) {
    const depth: u32 =
      node == inner - 1 ? 1 : word(WEIGHTS, load<u16>(PARENTS + (<usize>node << 1))) + 1;
    setWord(WEIGHTS, node, depth);
    const length = min(depth, limit);
    const leaves = <u32>load<u8>(LEAVES + node);
    setWord(COUNTS, length, word(COUNTS, length) + leaves);
    kraft += leaves << (limit - length);
  }
  // Too many codewords: a leaf one level up becomes the parent of itself and of one at the limit.
  while (kraft > (<u32>1) << limit) {
    let length = limit - 1;
    while (word(COUNTS, length) == 0) length--;
    setWord(COUNTS, length, word(COUNTS, length) - 1);
    setWord(COUNTS, length + 1, word(COUNTS, length + 1) + 2);
    setWord(COUNTS, limit, word(COUNTS, limit) - 1);
    kraft--;
  }
}

/** The `length` bits of `code` in opposite order. */
// @ts-ignore: decorator
@inline
function reversed(code: u32, length: u32): u32 {
  code = ((code & 0x5555) << 1) | ((code >> 1) & 0x5555);
  code = ((code & 0x3333) << 2) | ((code >> 2) & 0x3333);
  code = ((code & 0x0f0f) << 4) | ((code >> 4) & 0x0f0f);
  code = ((code & 0x00ff) << 8) | (code >> 8);
  return code >> (16 - length);
}

/** Canonical codewords (RFC 1951, 3.2.2) of given lengths, as `length << 24 | reversed bits`. */
export function assignCodewords(lengths: usize, count: u32, codes: usize): void {
  memory.fill(COUNTS, 0, 16 << 2);
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const length = <u32>load<u8>(lengths + symbol);
    setWord(COUNTS, length, word(COUNTS, length) + 1);
  }
  setWord(COUNTS, 0, 0);
  let next: u32 = 0;
  for (let length: u32 = 1; length < 16; length++) {
    next = (next + word(COUNTS, length - 1)) << 1;
    setWord(NEXT, length, next);
  }
  for (let symbol: u32 = 0; symbol < count; symbol++) {
    const length = <u32>load<u8>(lengths + symbol);
    if (length == 0) {
      setWord(codes, symbol, 0);
      continue;
    }
    const code = word(NEXT, length);
    setWord(NEXT, length, code + 1);
    setWord(codes, symbol, (length << 24) | reversed(code, length));
  }
}

/**
 * Codeword lengths (bytes at `lengths`) for `count` symbols with the given frequencies (u32, together
 * below 2^23). A code of fewer than two symbols is filled up to two, since only a complete code is
 * read by every decoder.
 */
export function buildLengths(frequencies: usize, count: u32, limit: u32, lengths: usize): void {
  memory.fill(lengths, 0, count);
  const used = sortSymbols(frequencies, count);
  if (used < 2) {
    const symbol = used == 0 ? 0 : word(SORTED, 0) & 511;
    store<u8>(lengths + symbol, 1);
    store<u8>(lengths + (symbol == 0 ? 1 : 0), 1);
    return;
  }
  buildTree(used);
  countLengths(used, limit);
  let at: u32 = 0;
  for (let length = limit; length > 0; length--) {
    for (let left = word(COUNTS, length); left > 0; left--) {
      store<u8>(lengths + (word(SORTED, at++) & 511), length);
    }
  }
}
