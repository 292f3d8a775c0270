/** Constants shared with `assembly/abi.ts`; a test compares the two. */
export const ABI_VERSION = 4;

/**
 * Bytes of a run record: u32 kind and, above `RUN_KIND_BITS`, aux; u32 first unit; f64 host offset. A
 * run ends where the next one begins; behind the last one a record has the end in place of a unit.
 */
export const RUN_BYTES = 16;
export const RUN_KIND_BITS = 3;

/** `kind` of a run record. */
export const RUN_UNALLOCATED = 0;
export const RUN_ZERO_PLAIN = 1;
/** Reads as zeros; `host` is the reserved cluster (of a subcluster: its own place). */
export const RUN_ZERO_ALLOCATED = 2;
export const RUN_DATA = 3;
/** One compressed cluster; `host` is the stream's offset, `aux` the bytes that may belong to it. */
export const RUN_COMPRESSED = 4;
/** One entry that breaks a rule; `aux` is an `INVALID_*` code, `host` the offset it names. */
export const RUN_INVALID = 5;
/** Extended L2 only: unallocated subclusters inside an allocated host cluster (read from below). */
export const RUN_UNALLOCATED_SUBCLUSTER = 6;

/**
 * `aux` of runs that are neither compressed nor invalid; only bits of the caller's mask are set.
 * COPIED: bit 63, where the entry has a host cluster. RESERVED: one of bits 1-8 and 56-61 is set.
 * Compressed entries, whose `aux` is a length, report neither.
 */
export const RUN_ATTR_COPIED = 1;
export const RUN_ATTR_RESERVED = 2;

export const L2_VERSION_2 = 1;
export const L2_DATA_FILE = 2;

export const INVALID_UNALIGNED = 1;
export const INVALID_ZERO_IN_V2 = 2;
export const INVALID_COMPRESSED_IN_DATA_FILE = 3;
export const INVALID_HOST_NOT_GUEST = 4;
/** A normal or compressed entry that starts at or past the end of the file, or at 2^53 or more. */
export const INVALID_PAST_END = 5;
export const INVALID_ALLOC_AND_ZERO = 6;
export const INVALID_ALLOC_WITHOUT_OFFSET = 7;
export const INVALID_BITMAP_ON_COMPRESSED = 8;

/** log2 of the bits of a piece of counters: 512 bytes, a part of every refcount block. */
export const PIECE_SHIFT = 12;
/**
 * Bytes of an entry in the directory of pieces: u32 address of the references to its clusters; u32
 * address of its stored counters. 0: not in memory.
 */
export const PIECE_ENTRY_BYTES = 8;
/**
 * Bytes of what `count_runs` keeps: f64 host offset behind the last cluster (0: none); f64 entries that
 * name clusters; f64 runs that do not begin where the last one ended; f64 highest cluster (-1: none).
 */
export const COUNT_STATE_BYTES = 32;

export const INFLATE_OK = 0;
/** The stream ended before the output was full. */
export const INFLATE_SHORT = 1;
/** Not a deflate stream: bad block type, code lengths, symbol or distance. */
export const INFLATE_INVALID = 2;
/** The input ended inside the stream. */
export const INFLATE_TRUNCATED = 3;

export const INFLATE_INPUT_SLACK = 64;
export const INFLATE_OUTPUT_SLACK = 320;

export const ZSTD_OK = 0;
/** The frames end before the output is full. */
export const ZSTD_SHORT = 1;
/** No zstd frame, or one that breaks a rule of RFC 8878. */
export const ZSTD_INVALID = 2;
/** The input ends inside a frame. */
export const ZSTD_TRUNCATED = 3;
/** A frame holds more than remains of the output. */
export const ZSTD_LONG = 4;
/** The content checksum of a frame is wrong. */
export const ZSTD_CHECKSUM = 5;
/** A frame needs a dictionary, or tells no content size and a window above 128 MiB. */
export const ZSTD_UNSUPPORTED = 6;

/** Length of the memory that `zstd_decompress` works in. */
export const ZSTD_SCRATCH_BYTES = 151552;
/** Length of the memory that `zstd_compress` works in. */
export const ZSTD_ENCODE_SCRATCH_BYTES = 1310784;
/** Bytes behind the source that `zstd_compress` may read, and behind the output that it puts back. */
export const ZSTD_ENCODE_SLACK = 64;

/** Levels of `deflate`. */
export const DEFLATE_FAST = 0;
export const DEFLATE_DEFAULT = 1;
export const DEFLATE_BEST = 2;

/** Bytes of memory that `deflate` works in. */
export const DEFLATE_SCRATCH_BYTES = 208896;
/** Bytes behind the source that `deflate` may read, and behind the output that it puts back. */
export const DEFLATE_SLACK = 16;
