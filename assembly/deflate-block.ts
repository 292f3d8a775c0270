// One deflate block (RFC 1951, 3.2.3) from the records of the parser: counted, measured in each
// form, and written in the shortest.
import { assignCodewords, buildLengths } from './deflate-code';
import {
  DISTANCE_COUNTS,
  distanceExtra,
  DISTANCES,
  distanceSymbol,
  increase,
  LENGTH_BASES,
  LENGTH_EXTRA,
  LENGTH_SYMBOLS,
  LITLEN_COUNTS,
  LITLENS,
  word,
} from './deflate-counts';
import { LITERALS_ONLY } from './deflate-parse';

/** Four literals and the 7 bits kept fit in the 64 bits of the buffer. */
// @ts-ignore: decorator
@inline const LITLEN_LIMIT: u32 = 14;
// @ts-ignore: decorator
@inline const DISTANCE_LIMIT: u32 = 15;
// @ts-ignore: decorator
@inline const PRECODE_LIMIT: u32 = 7;
// @ts-ignore: decorator
@inline const LONGEST_STORED: usize = 65535;
const PRECODE_COUNTS = memory.data(20 << 2, 16);
/** Codewords as `length << 24 | bits`; those of lengths 3 to 258 with their extra bits. */
const LITLEN_CODES = memory.data(288 << 2, 16);
const DISTANCE_CODES = memory.data(32 << 2, 16);
const PRECODE_CODES = memory.data(20 << 2, 16);
const LENGTH_CODES = memory.data(256 << 2, 16);
/** Lengths of the codewords of both codes, the second behind the used part of the first. */
const LENGTHS = memory.data(320, 16);
const DISTANCE_LENGTHS = memory.data(32, 16);
const PRECODE_LENGTHS = memory.data(20, 16);
/** Code lengths packed in runs: precode symbol, then the value of its extra bits. */
const PACKED = memory.data(320 << 1, 16);
const PRECODE_ORDER = memory.data<u8>([
  16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
]);

// The stream being written: its next byte, and up to 7 bits that do not fill one.
let out: usize = 0;
let outEnd: usize = 0;
let buffer: u64 = 0;
let held: u64 = 0;
// The plan of a block's header.
let litlens: u32 = 0;
let distances: u32 = 0;
let precodes: u32 = 0;
let packedEnd: usize = 0;

/** Starts a stream of at most `capacity` bytes. */
export function startStream(at: usize, capacity: usize): void {
  out = at;
  outEnd = at + capacity;
  buffer = 0;
  held = 0;
}

/** Ends the stream at a whole byte; the address behind it. */
export function finishStream(): usize {
  if (held > 0) store<u8>(out++, <u8>buffer);
  return out;
}

// @ts-ignore: decorator
@inline
function put(value: u32, bits: u32): void {
  buffer |= <u64>value << held;
  held += bits;
  store<u64>(out, buffer);
  out += <usize>(held >> 3);
  buffer >>= held & 56;
  held &= 7;
}

/** Bits of the block's symbols with codewords of the planned lengths. */
function dynamicBits(): u32 {
  let bits: u32 = 0;
  for (let i: u32 = 0; i < LITLENS; i++) bits += word(LITLEN_COUNTS, i) * load<u8>(LENGTHS + i);
  for (let i: u32 = 0; i < DISTANCES; i++) {
    bits += word(DISTANCE_COUNTS, i) * load<u8>(DISTANCE_LENGTHS + i);
  }
  return bits;
}

function fixedBits(): u32 {
  let bits: u32 = 0;
  for (let i: u32 = 0; i < LITLENS; i++) bits += word(LITLEN_COUNTS, i) * fixedLength(i);
  for (let i: u32 = 0; i < DISTANCES; i++) bits += word(DISTANCE_COUNTS, i) * 5;
  return bits;
}

function extraBits(): u32 {
  let bits: u32 = 0;
  for (let i: u32 = 8; i < 28; i++) {
    bits += word(LITLEN_COUNTS, 257 + i) * load<u8>(LENGTH_EXTRA + i);
  }
  for (let i: u32 = 4; i < DISTANCES; i++) bits += word(DISTANCE_COUNTS, i) * distanceExtra(i);
  return bits;
}

// @ts-ignore: decorator
@inline
function fixedLength(symbol: u32): u32 {
  return symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
}

// @ts-ignore: decorator
@inline
function pack(at: usize, symbol: u32, extra: u32): usize {
  increase(PRECODE_COUNTS, symbol);
  store<u16>(at, symbol | (extra << 8));
  return at + 2;
}

/** Packs the lengths of both codes in runs (RFC 1951, 3.2.7). */
function packLengths(): void {
  memory.fill(PRECODE_COUNTS, 0, 20 << 2);
  let into = PACKED;
  const end = LENGTHS + litlens + distances;
  for (let at = LENGTHS; at < end; ) {
    const length = <u32>load<u8>(at);
    const start = at;
    while (++at < end && <u32>load<u8>(at) == length) {}
    let run = <u32>(at - start);
    if (length == 0) {
      while (run >= 11) {
        const part = min<u32>(run, 138);
        into = pack(into, 18, part - 11);
        run -= part;
      }
      if (run >= 3) {
        into = pack(into, 17, run - 3);
        run = 0;
      }
    } else {
      into = pack(into, length, 0);
      run--;
      while (run >= 3) {
        const part = min<u32>(run, 6);
        into = pack(into, 16, part - 3);
        run -= part;
      }
    }
    for (; run > 0; run--) into = pack(into, length, 0);
  }
  packedEnd = into;
}

/** Extra bits of a precode symbol. */
// @ts-ignore: decorator
@inline
function precodeExtra(symbol: u32): u32 {
  return symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
}

/** Plans the codes of a dynamic block and its header; bits of the whole block without extra bits. */
function planDynamic(): u32 {
  buildLengths(LITLEN_COUNTS, LITLENS, LITLEN_LIMIT, LENGTHS);
  buildLengths(DISTANCE_COUNTS, DISTANCES, DISTANCE_LIMIT, DISTANCE_LENGTHS);
  const bits = dynamicBits();
  litlens = LITLENS;
  while (load<u8>(LENGTHS + litlens - 1) == 0) litlens--;
  litlens = max<u32>(litlens, 257);
  distances = DISTANCES;
  while (load<u8>(DISTANCE_LENGTHS + distances - 1) == 0) distances--;
  memory.copy(LENGTHS + litlens, DISTANCE_LENGTHS, distances);
  packLengths();
  buildLengths(PRECODE_COUNTS, 19, PRECODE_LIMIT, PRECODE_LENGTHS);
  precodes = 19;
  while (load<u8>(PRECODE_LENGTHS + load<u8>(PRECODE_ORDER + precodes - 1)) == 0) precodes--;
  let header: u32 = 14 + 3 * precodes;
  for (let i: u32 = 0; i < 19; i++) {
    header += word(PRECODE_COUNTS, i) * (load<u8>(PRECODE_LENGTHS + i) + precodeExtra(i));
  }
  return header + bits;
}

function writeDynamicHeader(): void {
  put(litlens - 257, 5);
  put(distances - 1, 5);
  put(precodes - 4, 4);
  for (let i: u32 = 0; i < precodes; i++) {
    put(load<u8>(PRECODE_LENGTHS + load<u8>(PRECODE_ORDER + i)), 3);
  }
  assignCodewords(PRECODE_LENGTHS, 19, PRECODE_CODES);
  for (let at = PACKED; at < packedEnd; at += 2) {
    const symbol = <u32>load<u8>(at);
    const code = word(PRECODE_CODES, symbol);
    const bits = code >> 24;
    put((code & 0xffff) | (<u32>load<u8>(at, 1) << bits), bits + precodeExtra(symbol));
  }
  assignCodewords(LENGTHS, litlens, LITLEN_CODES);
  assignCodewords(DISTANCE_LENGTHS, distances, DISTANCE_CODES);
}

function useFixedCodes(): void {
  for (let i: u32 = 0; i < 288; i++) store<u8>(LENGTHS + i, fixedLength(i));
  memory.fill(DISTANCE_LENGTHS, 5, 32);
  assignCodewords(LENGTHS, 288, LITLEN_CODES);
  assignCodewords(DISTANCE_LENGTHS, 32, DISTANCE_CODES);
}

/** Joins the codeword of each match length with its extra bits. */
function fillLengthCodes(): void {
  for (let length: u32 = 0; length < 256; length++) {
    const symbol = <u32>load<u8>(LENGTH_SYMBOLS + length);
    const code = word(LITLEN_CODES, 257 + symbol);
    const bits = code >> 24;
    const extra = length - load<u8>(LENGTH_BASES + symbol);
    const all = (code & 0xff_ffff) | (extra << bits);
    store<u32>(LENGTH_CODES + (<usize>length << 2), all | ((bits + load<u8>(LENGTH_EXTRA + symbol)) << 24));
  }
}

/** Writes the symbols of a block. */
function writeSymbols(from: usize, records: usize, recordsEnd: usize): void {
  let at = out;
  let bits = buffer;
  let count = held;
  for (; records < recordsEnd; records += 4) {
    const record = load<u32>(records);
    let run = record & LITERALS_ONLY;
    const hasMatch = run != LITERALS_ONLY;
    if (!hasMatch) run = record >> 12;
    while (run >= 4) {
      const a = word(LITLEN_CODES, load<u8>(from));
      const b = word(LITLEN_CODES, load<u8>(from, 1));
      const c = word(LITLEN_CODES, load<u8>(from, 2));
      const d = word(LITLEN_CODES, load<u8>(from, 3));
      bits |= <u64>(a & 0xffff) << count;
      count += a >> 24;
      bits |= <u64>(b & 0xffff) << count;
      count += b >> 24;
      bits |= <u64>(c & 0xffff) << count;
      count += c >> 24;
      bits |= <u64>(d & 0xffff) << count;
      count += d >> 24;
      store<u64>(at, bits);
      at += <usize>(count >> 3);
      bits >>= count & 56;
      count &= 7;
      from += 4;
      run -= 4;
    }
    if (run != 0) {
      do {
        const code = word(LITLEN_CODES, load<u8>(from++));
        bits |= <u64>(code & 0xffff) << count;
        count += code >> 24;
      } while (--run != 0);
      store<u64>(at, bits);
      at += <usize>(count >> 3);
      bits >>= count & 56;
      count &= 7;
    }
    if (!hasMatch) continue;
    const length = (record >> 12) & 255;
    const lengthCode = word(LENGTH_CODES, length);
    bits |= <u64>(lengthCode & 0xff_ffff) << count;
    count += lengthCode >> 24;
    const distance = record >> 20;
    const symbol = distanceSymbol(distance);
    const distanceCode = word(DISTANCE_CODES, symbol);
    bits |= <u64>(distanceCode & 0xffff) << count;
    count += distanceCode >> 24;
    const extra = distanceExtra(symbol);
    bits |= <u64>(distance & ((1 << extra) - 1)) << count;
    count += extra;
    store<u64>(at, bits);
    at += <usize>(count >> 3);
    bits >>= count & 56;
    count &= 7;
    from += length + 3;
  }
  out = at;
  buffer = bits;
  held = count;
  const end = word(LITLEN_CODES, 256);
  put(end & 0xffff, end >> 24);
}

/** Bytes that a stored block (in parts of 65535 bytes) takes from the position on. */
function storedBytes(length: usize): usize {
  const parts = max<usize>((length + LONGEST_STORED - 1) / LONGEST_STORED, 1);
  // The header of the first part begins in the byte begun, and may end in it.
  return length + parts * 5 + (held > 5 ? 1 : 0);
}

/** Writes `from .. to` as it is. False if that does not fit. */
export function writeStored(from: usize, to: usize, isLast: bool): bool {
  if (storedBytes(to - from) > outEnd - out) return false;
  do {
    const length = min(to - from, LONGEST_STORED);
    put(u32(isLast && from + length == to), 3);
    if (held > 0) put(0, 8 - <u32>held);
    put(<u32>length, 16);
    put(<u32>length ^ 0xffff, 16);
    memory.copy(out, from, length);
    out += length;
    from += length;
  } while (from < to);
  return true;
}

/** Writes the counted block, cut into `records`, in the shortest form. False if it does not fit. */
export function writeBlock(
  from: usize,
  to: usize,
  records: usize,
  recordsEnd: usize,
  isLast: bool,
): bool {
  increase(LITLEN_COUNTS, 256);
  const extra = extraBits();
  const dynamic = planDynamic() + extra;
  const fixed = fixedBits() + extra;
  const bytes = <usize>((held + 3 + min(dynamic, fixed) + 7) >> 3);
  if (storedBytes(to - from) <= bytes) return writeStored(from, to, isLast);
  if (bytes > outEnd - out) return false;
  if (fixed <= dynamic) {
    put(u32(isLast) | 2, 3);
    useFixedCodes();
  } else {
    put(u32(isLast) | 4, 3);
    writeDynamicHeader();
  }
  fillLengthCodes();
  writeSymbols(from, records, recordsEnd);
  return true;
}
