// Raw deflate decoding (RFC 1951) into a buffer of known length.
//
// The bit buffer holds 56 to 63 valid bits after a refill, and may hold bits from behind the input:
// nothing is decided on them. Each exit first asks whether more bits were used than there are.
import { INFLATE_INVALID, INFLATE_OK, INFLATE_SHORT, INFLATE_TRUNCATED } from './abi';
import {
  buildTable,
  DISTANCE_SYMBOLS,
  END_OF_BLOCK,
  EXCEPTIONAL,
  fillSymbols,
  LITERAL,
  LITLEN_SYMBOLS,
  PRECODE_SYMBOLS,
  SUBTABLE,
} from './huffman';
import { copyMatch, fillPatterns } from './match';

// @ts-ignore: decorator
@inline const LITLEN_BITS: u32 = 11;
// @ts-ignore: decorator
@inline const DISTANCE_BITS: u32 = 8;
// @ts-ignore: decorator
@inline const PRECODE_BITS: u32 = 7;
/** The block ended and another follows; no status of the ABI. */
// @ts-ignore: decorator
@inline const NEXT_BLOCK: i32 = -1;

// Root plus the most subtables that 288 (32) codewords of at most 15 bits need: 2342 and 402.
const LITLEN_TABLE = memory.data(2344 << 2, 16);
const DISTANCE_TABLE = memory.data(408 << 2, 16);
const PRECODE_TABLE = memory.data(128 << 2, 16);
const LENGTHS = memory.data(320, 16);
const PRECODE_LENGTHS = memory.data(19);
const PRECODE_ORDER = memory.data<u8>([
  16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
]);

// The reader between blocks; the loops keep it in locals.
let next: usize = 0;
let buffer: u64 = 0;
/** Valid bits of `buffer`, in the low 6 bits; bits above are leftovers of subtractions. */
let available: u64 = 0;
let inputEnd: usize = 0;
let outputStart: usize = 0;
let output: usize = 0;
let outputEnd: usize = 0;
/** Whether the tables hold the fixed codes, so that a run of fixed blocks builds them once. */
let tablesAreFixed: bool = false;

fillSymbols();
fillPatterns();

export function inflate(src: usize, src_length: usize, out: usize, out_length: usize): i32 {
  next = src;
  buffer = 0;
  available = 0;
  inputEnd = src + src_length;
  outputStart = out;
  output = out;
  outputEnd = out + out_length;
  let isLast: u64 = 0;
  let status = out_length == 0 ? INFLATE_OK : NEXT_BLOCK;
  while (status == NEXT_BLOCK) {
    if (isLast) return INFLATE_SHORT;
    refill();
    isLast = take(1);
    const type = <u32>take(2);
    if (isOverread()) return INFLATE_TRUNCATED;
    if (type == 3) return INFLATE_INVALID;
    if (type == 0) {
      status = copyStored();
    } else {
      status = type == 1 ? readFixedCodes() : readDynamicCodes();
      if (status == NEXT_BLOCK) status = decodeBlock();
    }
  }
  return status;
}

/** Reads 8 bytes and keeps as many as fit: at least 56 bits are valid afterwards. */
// @ts-ignore: decorator
@inline
function refill(): void {
  buffer |= load<u64>(next) << available;
  next += 7 - (<usize>(available >> 3) & 7);
  available |= 56;
}

// @ts-ignore: decorator
@inline
function take(bits: u64): u64 {
  const value = buffer & (((<u64>1) << bits) - 1);
  buffer >>= bits;
  available -= bits;
  return value;
}

/** Whether more bits were taken than the input has. */
// @ts-ignore: decorator
@inline
function isOverread(): bool {
  return isPastInput(next, available);
}

// @ts-ignore: decorator
@inline
function isPastInput(at: usize, bits: u64): bool {
  return at - (<usize>(bits >> 3) & 7) > inputEnd;
}

/** Copies a stored block (RFC 1951, 3.2.4). */
function copyStored(): i32 {
  // At least 53 bits are left behind the block header: enough for alignment and both lengths.
  take(available & 7);
  const length = <usize>take(16);
  const complement = <usize>take(16);
  if (isOverread()) return INFLATE_TRUNCATED;
  if ((length ^ complement) != 0xffff) return INFLATE_INVALID;
  const from = next - (<usize>(available >> 3) & 7);
  const wanted = min(length, outputEnd - output);
  const got = min(wanted, inputEnd - from);
  memory.copy(output, from, got);
  output += got;
  if (got < wanted) return INFLATE_TRUNCATED;
  next = from + got;
  buffer = 0;
  available = 0;
  return output == outputEnd ? INFLATE_OK : NEXT_BLOCK;
}

function readFixedCodes(): i32 {
  if (tablesAreFixed) return NEXT_BLOCK;
  memory.fill(LENGTHS, 8, 144);
  memory.fill(LENGTHS + 144, 9, 112);
  memory.fill(LENGTHS + 256, 7, 24);
  memory.fill(LENGTHS + 280, 8, 8);
  buildTable(LENGTHS, 288, LITLEN_SYMBOLS, LITLEN_BITS, LITLEN_TABLE, true);
  memory.fill(LENGTHS, 5, 32);
  buildTable(LENGTHS, 32, DISTANCE_SYMBOLS, DISTANCE_BITS, DISTANCE_TABLE, true);
  tablesAreFixed = true;
  return NEXT_BLOCK;
}

/** Reads the header of a dynamic block (RFC 1951, 3.2.7) and builds its tables. */
function readDynamicCodes(): i32 {
  const litlens = <u32>take(5) + 257;
  const distances = <u32>take(5) + 1;
  const precodes = <u32>take(4) + 4;
  if (isOverread()) return INFLATE_TRUNCATED;
  if (litlens > 286 || distances > 30) return INFLATE_INVALID;
  memory.fill(PRECODE_LENGTHS, 0, 19);
  for (let i: u32 = 0; i < precodes; i++) {
    refill();
    store<u8>(PRECODE_LENGTHS + load<u8>(PRECODE_ORDER + i), <u8>take(3));
  }
  if (isOverread()) return INFLATE_TRUNCATED;
  if (!buildTable(PRECODE_LENGTHS, 19, PRECODE_SYMBOLS, PRECODE_BITS, PRECODE_TABLE, true)) {
    return INFLATE_INVALID;
  }
  tablesAreFixed = false;
  const status = readCodeLengths(litlens + distances);
  if (status != NEXT_BLOCK) return status;
  // A block without its end marker can never end.
  if (load<u8>(LENGTHS + 256) == 0) return INFLATE_INVALID;
  const distanceLengths = LENGTHS + litlens;
  const isValid =
    buildTable(LENGTHS, litlens, LITLEN_SYMBOLS, LITLEN_BITS, LITLEN_TABLE, false) &&
    buildTable(distanceLengths, distances, DISTANCE_SYMBOLS, DISTANCE_BITS, DISTANCE_TABLE, false);
  return isValid ? NEXT_BLOCK : INFLATE_INVALID;
}

/** Reads `count` code lengths, which the precode packs in runs. */
function readCodeLengths(count: u32): i32 {
  let done: u32 = 0;
  while (done < count) {
    refill();
    const entry = load<u32>(PRECODE_TABLE + (<usize>(buffer & ((1 << PRECODE_BITS) - 1)) << 2));
    take(entry & 0xff);
    const symbol = entry >> 16;
    let repeat: u32 = 1;
    if (symbol == 16) repeat = 3 + <u32>take(2);
    else if (symbol == 17) repeat = 3 + <u32>take(3);
    else if (symbol == 18) repeat = 11 + <u32>take(7);
    if (isOverread()) return INFLATE_TRUNCATED;
    if (repeat > count - done || (symbol == 16 && done == 0)) return INFLATE_INVALID;
    let length = symbol;
    if (symbol == 16) length = load<u8>(LENGTHS + done - 1);
    else if (symbol > 16) length = 0;
    memory.fill(LENGTHS + done, <u8>length, repeat);
    done += repeat;
  }
  return NEXT_BLOCK;
}

/** Base and extra bits of a length or distance; `bits` is the buffer before the entry was dropped. */
// @ts-ignore: decorator
@inline
function valueOf(entry: u64, bits: u64): usize {
  const extra = (bits & (((<u64>1) << entry) - 1)) >> ((entry >> 8) & 15);
  return <usize>(entry >> 16) + <usize>extra;
}

// @ts-ignore: decorator
@inline
function entryAt(table: usize, bits: u64, indexBits: u64): u64 {
  return <u64>load<u32>(table + (<usize>(bits & (((<u64>1) << indexBits) - 1)) << 2));
}

/** Entry of the subtable that `entry` points to; `bits` is the buffer behind the root's part. */
// @ts-ignore: decorator
@inline
function subtableEntry(table: usize, entry: u64, bits: u64): u64 {
  return entryAt(table + (<usize>(entry >> 16) << 2), bits, (entry >> 8) & 15);
}

/** Decodes the symbols of one block. Shift counts need no mask: WebAssembly takes their low 6 bits. */
function decodeBlock(): i32 {
  let at = next;
  let bits = buffer;
  let left = available;
  let out = output;
  const start = outputStart;
  const end = outputEnd;
  // From here on a turn refills twice from at most 8 bytes behind the input; 64 are readable.
  const atLimit = inputEnd + 8;
  // Three literals from here leave room for the match behind them.
  const nearEnd = outputEnd - 3;
  let status = NEXT_BLOCK;

  bits |= load<u64>(at) << left;
  at += 7 - (<usize>(left >> 3) & 7);
  left |= 56;
  let entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
  while (true) {
    // Here `entry` is that of the next symbol, and at least 56 bits are valid.
    if (at > atLimit) break;
    if (out < nearEnd) {
      if (entry & LITERAL) {
        bits >>= entry;
        left -= entry;
        store<u8>(out++, <u8>(entry >> 16));
        entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
        if (entry & LITERAL) {
          bits >>= entry;
          left -= entry;
          store<u8>(out++, <u8>(entry >> 16));
          entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
          if (entry & LITERAL) {
            bits >>= entry;
            left -= entry;
            store<u8>(out++, <u8>(entry >> 16));
            entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
          }
        }
        bits |= load<u64>(at) << left;
        at += 7 - (<usize>(left >> 3) & 7);
        left |= 56;
        if (entry & LITERAL) continue;
      }
    } else {
      // Symbols behind the end of the output must not count as used input: one at a time.
      if (out >= end) {
        status = INFLATE_OK;
        break;
      }
      if (entry & LITERAL) {
        bits >>= entry;
        left -= entry;
        store<u8>(out++, <u8>(entry >> 16));
        bits |= load<u64>(at) << left;
        at += 7 - (<usize>(left >> 3) & 7);
        left |= 56;
        entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
        continue;
      }
    }
    let before = bits;
    bits >>= entry;
    left -= entry;
    if (entry & EXCEPTIONAL) {
      if (entry & SUBTABLE) {
        entry = subtableEntry(LITLEN_TABLE, entry, bits);
        before = bits;
        bits >>= entry;
        left -= entry;
        if (entry & LITERAL) {
          store<u8>(out++, <u8>(entry >> 16));
          bits |= load<u64>(at) << left;
          at += 7 - (<usize>(left >> 3) & 7);
          left |= 56;
          entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
          continue;
        }
      }
      if (entry & EXCEPTIONAL) {
        if (!(entry & END_OF_BLOCK)) status = INFLATE_INVALID;
        break;
      }
    }
    // At least 36 bits are left: enough for a distance.
    const length = valueOf(entry, before);
    entry = entryAt(DISTANCE_TABLE, bits, DISTANCE_BITS);
    before = bits;
    bits >>= entry;
    left -= entry;
    if (entry & EXCEPTIONAL) {
      if (entry & SUBTABLE) {
        entry = subtableEntry(DISTANCE_TABLE, entry, bits);
        before = bits;
        bits >>= entry;
        left -= entry;
      }
      if (entry & EXCEPTIONAL) {
        status = INFLATE_INVALID;
        break;
      }
    }
    const distance = valueOf(entry, before);
    if (distance > out - start) {
      status = INFLATE_INVALID;
      break;
    }
    bits |= load<u64>(at) << left;
    at += 7 - (<usize>(left >> 3) & 7);
    left |= 56;
    entry = entryAt(LITLEN_TABLE, bits, LITLEN_BITS);
    copyMatch(out, distance, length);
    out += length;
  }
  if (isPastInput(at, left)) return INFLATE_TRUNCATED;
  next = at;
  buffer = bits;
  available = left;
  output = out;
  return status;
}
