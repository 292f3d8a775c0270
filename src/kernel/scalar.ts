import { ABI_VERSION } from './abi.ts';
import type { KernelExports } from './exports.ts';
import { countRuns } from './scalar/count-runs.ts';
import { deflate } from './scalar/deflate.ts';
import { firstDifference } from './scalar/difference.ts';
import { inflate } from './scalar/inflate.ts';
import { decodeL2, l2Rules } from './scalar/l2.ts';
import { ScalarMemory } from './scalar/memory.ts';
import { add, compare, fill, pack, scan, unpack } from './scalar/refcount.ts';
import { sha256Blocks } from './scalar/sha256.ts';
import { decodeExtendedL2 } from './scalar/subcluster.ts';
import { nonzeroBitmap, zeroRange } from './scalar/zero.ts';
import { zstdDecompress } from './scalar/zstd.ts';
import { zstdCompress } from './scalar/zstd-encode.ts';

/**
 * The kernel's functions in plain TypeScript, over memory of their own: the fallback where there is
 * no WebAssembly, and what the compiled modules are tested against.
 */
export function createScalarExports(): KernelExports {
  const memory = new ScalarMemory();
  return {
    memory,
    abi_version: () => ABI_VERSION,
    has_simd: () => 0,
    heap_base: () => 16,
    zero_range: (ptr, length) => zeroRange(memory, ptr, length),
    nonzero_bitmap: (ptr, length, unitBits, out) =>
      nonzeroBitmap(memory, ptr, length, unitBits, out),
    first_difference: (a, b, length) => firstDifference(memory, a, b, length),
    l2_decode: (table, first, count, bits, flags, attributes, guest, hostSize, out, capacity) => {
      const rules = l2Rules(bits, flags, attributes, hostSize);
      return decodeL2(memory, table, first, count, rules, guest, out, capacity);
    },
    l2_decode_extended: (
      table,
      first,
      count,
      bits,
      flags,
      attributes,
      guest,
      hostSize,
      out,
      capacity,
    ) => {
      const rules = l2Rules(bits, flags, attributes, hostSize);
      return decodeExtendedL2(memory, table, first, count, rules, guest, out, capacity);
    },
    refcount_unpack: (block, order, first, count, out) =>
      unpack(memory, block, order, first, count, out),
    refcount_pack: (block, order, first, count, values) =>
      pack(memory, block, order, first, count, values),
    refcount_fill: (block, order, first, count, value) =>
      fill(memory, block, order, first, count, value),
    refcount_add: (block, order, first, count, delta) =>
      add(memory, block, order, first, count, delta),
    refcount_compare: (a, b, order, first, count) => compare(memory, a, b, order, first, count),
    refcount_scan: (block, order, first, count, zero) =>
      scan(memory, block, order, first, count, zero),
    count_runs: (
      runs,
      count,
      clusterBits,
      unitBits,
      order,
      directory,
      pieces,
      clusters,
      times,
      verify,
      state,
    ) => {
      const where = { clusterBits, unitBits, order, directory, pieces, clusters };
      return countRuns(memory, runs, count, { ...where, times, verify: verify !== 0 }, state);
    },
    inflate: (src, srcLength, out, outLength) => inflate(memory.u8, src, srcLength, out, outLength),
    deflate: (src, srcLength, out, capacity, level) =>
      deflate(memory.u8, src, srcLength, out, capacity, level),
    zstd_decompress: (src, srcLength, out, outLength) =>
      zstdDecompress(memory.u8, src, srcLength, out, outLength),
    zstd_compress: (src, srcLength, out, capacity) =>
      zstdCompress(memory.u8, src, srcLength, out, capacity),
    sha256_blocks: (state, ptr, blocks) => sha256Blocks(memory, state, ptr, blocks),
  };
}
