// The exports are the ABI: `KernelExports` in src/kernel/exports.ts tells what each function does.
import { ABI_VERSION } from './abi';

export { count_runs } from './count-runs';
export { deflate } from './deflate';
export { first_difference } from './difference';
export { inflate } from './inflate';
export { l2_decode } from './l2';
export {
  refcount_add,
  refcount_compare,
  refcount_fill,
  refcount_pack,
  refcount_scan,
  refcount_unpack,
} from './refcount';
export { sha256_blocks } from './sha256';
export { l2_decode_extended } from './subcluster';
export { nonzero_bitmap, zero_range } from './zero';
export { zstd_compress } from './zstd/encode-frame';
export { zstd_decompress } from './zstd/frame';

export function abi_version(): u32 {
  return ABI_VERSION;
}

export function has_simd(): u32 {
  return ASC_FEATURE_SIMD ? 1 : 0;
}

/** First address behind the module's own tables. */
export function heap_base(): usize {
  return __heap_base;
}
