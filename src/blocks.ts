/** Disks in blocks of one size, for programs that copy or compare them block by block. */
export { type Block, BlockDisk, type BlockDiskOptions } from './adapters/block-disk.ts';
export { randomAccessDisk } from './adapters/random-access-disk.ts';
