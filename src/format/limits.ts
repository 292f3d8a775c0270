/**
 * Every limit the package holds an image to, with where it comes from. "QEMU" means measured or
 * published behaviour of QEMU 7.2; "ours" means a bound this package adds so that a hostile file
 * can cost neither memory nor time out of proportion to its length.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** Largest offset or size in bytes (ours): the largest integer a `number` holds exactly. */
export const MAX_OFFSET = Number.MAX_SAFE_INTEGER;

/** Host offsets in L1 and L2 entries lie below this (format: bits 9 to 55). */
export const HOST_OFFSET_LIMIT = 2 ** 56;

/** Smallest and largest `cluster_bits` (QEMU): 512 bytes to 2 MiB. */
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;

/** Smallest `cluster_bits` with extended L2 entries (format): a subcluster has at least 512 bytes. */
export const MIN_CLUSTER_BITS_EXTENDED_L2 = 14;

/** Unit of the virtual size, of compressed lengths and of encryption, in bytes (format). */
export const SECTOR_SIZE = 512;

/** Largest `refcount_order` (format): 64-bit counters. */
export const MAX_REFCOUNT_ORDER = 6;

/** Largest L1 table in bytes and entries (QEMU), of the active disk and of a snapshot. */
export const MAX_L1_BYTES = 32 * MIB;
export const MAX_L1_ENTRIES = MAX_L1_BYTES / 8;

/** Largest number of L1 entries a virtual size may need before it counts as too big (QEMU). */
export const MAX_L1_NEEDED = 2 ** 31 - 1;

/** Largest refcount table in bytes (QEMU). */
export const MAX_REFCOUNT_TABLE_BYTES = 8 * MIB;

/** Longest backing file name in bytes (QEMU); it must also fit into the first cluster. */
export const MAX_BACKING_NAME_BYTES = 1023;

/** Longest backing format name in bytes (QEMU). */
export const MAX_BACKING_FORMAT_BYTES = 15;

/** Longest chain of backing files (ours; QEMU has none); loops are found by identity as well. */
export const MAX_CHAIN_DEPTH = 200;

/** Internal snapshots: number, bytes of the table, bytes of extra data of one entry (QEMU). */
export const MAX_SNAPSHOTS = 65536;
export const MAX_SNAPSHOT_TABLE_BYTES = 64 * MIB;
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024;

/** Longest snapshot id or name in bytes (format: width of the length fields). */
export const MAX_SNAPSHOT_TEXT_BYTES = 65535;

/** Persistent bitmaps: number and bytes of the directory (QEMU). */
export const MAX_BITMAPS = 65535;
export const MAX_BITMAP_DIRECTORY_BYTES = MAX_BITMAPS * KIB;

/** One bitmap: table entries, bytes of data, bytes of the name (QEMU). */
export const MAX_BITMAP_TABLE_ENTRIES = 0x8000000;
export const MAX_BITMAP_DATA_BYTES = 512 * MIB;
export const MAX_BITMAP_NAME_BYTES = 1023;

/** Granularity of a bitmap as a power of two (QEMU): 512 bytes to 2 GiB. */
export const MIN_BITMAP_GRANULARITY_BITS = 9;
export const MAX_BITMAP_GRANULARITY_BITS = 31;

/** Stripes of LUKS key material (QEMU): exactly this many, in inactive slots too. */
export const LUKS_STRIPES = 4000;

/** Longest LUKS master key in bytes (ours): two 256-bit keys, the most any known mode takes. */
export const MAX_LUKS_KEY_BYTES = 64;

/** Most PBKDF2 iterations done for a file without the caller raising it (ours). */
export const MAX_LUKS_ITERATIONS = 10_000_000;

/** Most host clusters `check` handles (QEMU). */
export const MAX_CHECK_CLUSTERS = 2 ** 31 - 1;
