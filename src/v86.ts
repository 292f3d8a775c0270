/** Disks for the emulator v86, in browsers, workers and Node. */
export {
  toV86Disk,
  type V86Disk,
  type V86DiskOptions,
  type V86SaveOptions,
} from './adapters/v86-disk.ts';
