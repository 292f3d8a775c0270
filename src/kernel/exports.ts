/**
 * The kernel's functions exactly as the wasm module exports them, and as `scalar.ts` provides them
 * in TypeScript. Pointers and lengths are bytes in the kernel's own memory (`u32`); everything that
 * can exceed 2^32 crosses as a double, exact up to 2^53 - 1, so no call makes a BigInt.
 * Inputs that come from a file are bounds-checked inside; results are counts or status codes.
 */
export interface KernelExports {
  readonly memory: { readonly buffer: ArrayBufferLike; grow(pages: number): number };

  /** ABI version of `assembly/abi.ts`; the loader refuses another one. */
  abi_version(): number;
  /** 1 if the module was built with SIMD. */
  has_simd(): number;
  /** First address behind the kernel's own tables: the memory from here on is the arena's. */
  heap_base(): number;

  /** 1 if all `length` bytes are zero (also for length 0). Any alignment. */
  zero_range(ptr: number, length: number): number;
  /**
   * Splits the range in units of `1 << unit_bits` bytes (the last may be shorter) and writes a
   * bitmap at `out`, least significant bit first: bit k set = unit k holds a byte other than zero.
   * Unused bits of the last byte are 0. Returns the number of non-zero units.
   */
  nonzero_bitmap(ptr: number, length: number, unit_bits: number, out: number): number;
  /**
   * Index of the first byte that differs between the `length` (below 2^31) bytes at `a` and at `b`, or
   * -1. Any alignment; the ranges may overlap.
   */
  first_difference(a: number, b: number, length: number): number;

  /**
   * Decodes entries `first .. first+count` of the standard L2 table at `table` into coalesced runs
   * at `out` (format sections 7, 8, 11). Record: see `RUN_*` in `abi.ts` of this folder. Stops early
   * when one more record than `capacity` would be needed: go on where the last one ends. Returns the
   * number of records; at `out` there must be room for one more than `capacity`.
   * Runs join when their kind and attributes are equal and, where they have a host offset, the
   * second begins where the first ends; compressed and invalid entries are records of their own.
   * Alignment, the version 2 zero flag and "host equals guest" are checked for every entry that
   * names a cluster, the file's end only for data and compressed streams; of several faults one
   * entry can have, the record tells the first of: compressed in a data file, zero in version 2,
   * unaligned, host not guest, past the end.
   * @param table pointer to entry 0 of the table, not to entry `first`
   * @param first index of the first entry; records number entries as the table does
   * @param cluster_bits 9 to 21
   * @param flags `L2_*` bits
   * @param attributes mask of `RUN_ATTR_*` bits that separate runs; 0 coalesces the most
   * @param guest_base guest offset in bytes of entry `first` (compared with data-file offsets)
   * @param host_size length in bytes of the file the entries point into; `Infinity` checks only
   *   that offsets are below 2^53
   */
  l2_decode(
    table: number,
    first: number,
    count: number,
    cluster_bits: number,
    flags: number,
    attributes: number,
    guest_base: number,
    host_size: number,
    out: number,
    capacity: number,
  ): number;
  /**
   * The same for 16-byte extended entries (section 9), with cluster_bits 14 to 21; records number
   * subclusters (32 an entry), and `host` is that of the run's first subcluster. A compressed or
   * invalid entry is one record of 32 units. A cluster is data for the check of the file's end when
   * one subcluster is, and it is the cluster's offset that must lie inside. Bit 0 of the first word
   * is ignored. Stops only between clusters, when fewer than 32 records are left: `capacity` must be
   * at least 64.
   */
  l2_decode_extended(
    table: number,
    first: number,
    count: number,
    cluster_bits: number,
    flags: number,
    attributes: number,
    guest_base: number,
    host_size: number,
    out: number,
    capacity: number,
  ): number;

  // Refcount blocks (section 6): `order` is 0 to 6, and every index is the counter's in its block.

  /** Unpacks counters `first .. first+count` of a refcount block into u64 little-endian at `out`. */
  refcount_unpack(block: number, order: number, first: number, count: number, out: number): void;
  /**
   * Sets counters `first .. first+count` to the u64 little-endian values at `values`. Returns -1, or
   * the index of the first counter whose value does not fit (nothing is written then).
   */
  refcount_pack(block: number, order: number, first: number, count: number, values: number): number;
  /** Sets `count` counters to one value (which must fit the width: 0, else 1). */
  refcount_fill(block: number, order: number, first: number, count: number, value: number): number;
  /**
   * Adds the integer `delta` (may be negative) to each. Returns -1, or the index of the first counter
   * that would leave 0..max; nothing is written then.
   */
  refcount_add(block: number, order: number, first: number, count: number, delta: number): number;
  /** Index of the first counter that differs between two packed blocks of the same order, or -1. */
  refcount_compare(a: number, b: number, order: number, first: number, count: number): number;
  /** Index of the first counter that is zero (`zero` 1) or non-zero (`zero` 0), or -1. */
  refcount_scan(block: number, order: number, first: number, count: number, zero: number): number;

  /**
   * Counts references to the clusters of decoded runs (format section 18), up to the first run that
   * needs a closer look; returns how many were counted. That is one whose kind is compressed or
   * invalid, with reserved bits, with clusters of several pieces, of a piece the directory does not
   * have, or behind `clusters`; one whose references would not fit; and, where `verify` is 1, one whose
   * stored counters are not in memory or do not agree with bit 63 (1 with it, not 1 without).
   * Of that run nothing is counted.
   * @param runs first of `count` records, of which one more follows for the end
   * @param unit_bits log2 of the units of an entry: 0, for extended entries 5
   * @param order of the counters, stored and counted
   * @param directory one entry of `PIECE_ENTRY_BYTES` for each of `pieces` pieces of `1 << (PIECE_SHIFT -
   *   order)` counters
   * @param clusters of the file
   * @param times references that each entry stands for
   * @param state `COUNT_STATE_BYTES` that go from call to call
   */
  count_runs(
    runs: number,
    count: number,
    cluster_bits: number,
    unit_bits: number,
    order: number,
    directory: number,
    pieces: number,
    clusters: number,
    times: number,
    verify: number,
    state: number,
  ): number;

  /**
   * Inflates raw deflate (RFC 1951) until `out_length` bytes are produced. `src` must have 64
   * readable bytes behind it and `out` 320 writable ones; their contents after the call are
   * undefined. Input is never read as stream beyond `src_length`. Returns an `INFLATE_*` status; the
   * output is defined only with `INFLATE_OK`. What follows the symbol that fills the output is not
   * looked at, so a surplus and a missing end marker are both accepted.
   */
  inflate(src: number, src_length: number, out: number, out_length: number): number;
  /**
   * Compresses to raw deflate (RFC 1951), with distances up to 4096 so that a decoder with a window
   * of 4 KiB reads it. Equal arguments give equal bytes in every build. `src` must have 16 readable
   * bytes behind it, which do not count, and `out` 16 writable ones, which are as before after the
   * call. Input, output and scratch must not overlap.
   * @param out_capacity greatest length of the stream in bytes
   * @param level `DEFLATE_FAST`, `DEFLATE_DEFAULT` or `DEFLATE_BEST`
   * @param scratch `DEFLATE_SCRATCH_BYTES` of memory, 16-byte aligned, undefined before and after
   * @returns length of the stream in bytes, or -1 if it does not fit (`out` is then undefined)
   */
  deflate(
    src: number,
    src_length: number,
    out: number,
    out_capacity: number,
    level: number,
    scratch: number,
  ): number;

  /**
   * Decodes zstd frames (RFC 8878) until `out_length` bytes (at most 16 MiB) are produced, where a
   * frame must end; what follows it is not looked at. `src` and `out` need the slack that `inflate`
   * needs, `scratch` is `ZSTD_SCRATCH_BYTES` of memory; the contents of all three are undefined
   * afterwards. Skippable frames are stepped over, content checksums verified, window sizes ignored
   * except that a frame without content size is refused above 128 MiB. No match reaches in front of
   * its frame. Returns a `ZSTD_*` status; the output is defined only with `ZSTD_OK`.
   */
  zstd_decompress(
    src: number,
    src_length: number,
    out: number,
    out_length: number,
    scratch: number,
  ): number;

  /**
   * Compresses to one zstd frame (RFC 8878): a single segment that tells its content size (at most
   * 16 MiB), without a checksum. Equal arguments give equal bytes in every build. `src` must have
   * 64 readable bytes behind it, which do not count, and `out` 64 writable ones, which are as before
   * after the call. Input, output and scratch must not overlap.
   * @param out_capacity greatest length of the frame in bytes
   * @param scratch `ZSTD_ENCODE_SCRATCH_BYTES` of memory, 16-byte aligned, undefined before and after
   * @returns length of the frame in bytes, or -1 if it does not fit (`out` is then undefined)
   */
  zstd_compress(
    src: number,
    src_length: number,
    out: number,
    out_capacity: number,
    scratch: number,
  ): number;

  /**
   * The compression function of SHA-256 (FIPS 180-4): takes `blocks` blocks of 64 bytes at `ptr` into
   * the hash value at `state`, eight u32 in the machine's order (little-endian). Both 4-byte aligned.
   */
  sha256_blocks(state: number, ptr: number, blocks: number): void;
}
