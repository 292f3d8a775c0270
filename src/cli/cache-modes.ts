/** Cache modes of qemu-img (`-t`, `-T`). They are checked and have no effect here. */
export const CACHE_MODES = ['writeback', 'none', 'unsafe', 'directsync', 'writethrough'] as const;
