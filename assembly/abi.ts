// The constants of src/kernel/abi.ts, where they are explained; a test compares the two files.
export const ABI_VERSION = 4;

export const RUN_BYTES = 16;
export const RUN_KIND_BITS = 3;

export const RUN_UNALLOCATED = 0;
export const RUN_ZERO_PLAIN = 1;
export const RUN_ZERO_ALLOCATED = 2;
export const RUN_DATA = 3;
export const RUN_COMPRESSED = 4;
export const RUN_INVALID = 5;
export const RUN_UNALLOCATED_SUBCLUSTER = 6;

export const RUN_ATTR_COPIED = 1;
export const RUN_ATTR_RESERVED = 2;

export const L2_VERSION_2 = 1;
export const L2_DATA_FILE = 2;

export const INVALID_UNALIGNED = 1;
export const INVALID_ZERO_IN_V2 = 2;
export const INVALID_COMPRESSED_IN_DATA_FILE = 3;
export const INVALID_HOST_NOT_GUEST = 4;
export const INVALID_PAST_END = 5;
export const INVALID_ALLOC_AND_ZERO = 6;
export const INVALID_ALLOC_WITHOUT_OFFSET = 7;
export const INVALID_BITMAP_ON_COMPRESSED = 8;

export const PIECE_SHIFT = 12;
export const PIECE_ENTRY_BYTES = 8;
export const COUNT_STATE_BYTES = 32;

export const INFLATE_OK = 0;
export const INFLATE_SHORT = 1;
export const INFLATE_INVALID = 2;
export const INFLATE_TRUNCATED = 3;

export const INFLATE_INPUT_SLACK = 64;
export const INFLATE_OUTPUT_SLACK = 320;

export const ZSTD_OK = 0;
export const ZSTD_SHORT = 1;
export const ZSTD_INVALID = 2;
export const ZSTD_TRUNCATED = 3;
export const ZSTD_LONG = 4;
export const ZSTD_CHECKSUM = 5;
export const ZSTD_UNSUPPORTED = 6;

export const ZSTD_SCRATCH_BYTES = 151552;
export const ZSTD_ENCODE_SCRATCH_BYTES = 1310784;
export const ZSTD_ENCODE_SLACK = 64;

export const DEFLATE_FAST = 0;
export const DEFLATE_DEFAULT = 1;
export const DEFLATE_BEST = 2;

export const DEFLATE_SCRATCH_BYTES = 208896;
export const DEFLATE_SLACK = 16;
