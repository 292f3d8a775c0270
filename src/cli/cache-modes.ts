/**
 * Cache modes of qemu-img (`-t`, `-T`), its default first. All but `unsafe` have a target waited for
 * until it is on the disk; nothing else depends on them here.
 */
export const CACHE_MODES = ['unsafe', 'writeback', 'none', 'directsync', 'writethrough'] as const;
