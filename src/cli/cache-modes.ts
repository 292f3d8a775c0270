/** Cache modes of qemu-img (`-t`, `-T`); the first is ours. Only `-t unsafe` makes a difference here. */
export const CACHE_MODES = ['writeback', 'none', 'unsafe', 'directsync', 'writethrough'] as const;
