/** The package in browsers, workers and Node: images over storages of any kind. */
export type { DeflateLevel } from './codecs/deflate.ts';
export {
  isQcow2Error,
  Qcow2Error,
  type Qcow2ErrorCode,
  type Qcow2ErrorDetails,
} from './errors.ts';
export type { BitmapDirectoryEntry } from './format/bitmap-directory.ts';
export type { Name } from './format/fields.ts';
export type { Geometry, HostOffset } from './format/geometry.ts';
export type { Header } from './format/header.ts';
export type { HeaderExtension } from './format/header-extensions.ts';
export type { LuksHeader, LuksKeySlot } from './format/luks-header.ts';
export type { Snapshot } from './format/snapshot-table.ts';
export type { BackingSource, GivenSources } from './image/given-files.ts';
export { type HttpResolverOptions, httpResolver } from './image/http-resolver.ts';
export type { SnapshotQuery } from './image/identify.ts';
export { Image } from './image/image.ts';
export type { Metadata } from './image/metadata.ts';
export type { NewImageOptions, Preallocation } from './image/new-image.ts';
export type { OutsideFile, OutsideResolver } from './image/open-gate.ts';
export type { OpenOptions, WriteZeroesOptions } from './image/open-options.ts';
export { createKernel, type Kernel, type KernelBackend } from './kernel/kernel.ts';
export { init } from './kernel/load.ts';
export { type AdoptOptions, adopt } from './operations/adopt.ts';
export { type AmendOptions, amend } from './operations/amend.ts';
export { type BenchOptions, type BenchResult, bench } from './operations/bench.ts';
export {
  type AddBitmapOptions,
  addBitmap,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  removeBitmap,
} from './operations/bitmap.ts';
export {
  type CheckFinding,
  type CheckOptions,
  type CheckResult,
  check,
  type FindingClass,
} from './operations/check.ts';
export type { DiskRange } from './operations/chunks.ts';
export { type CommitOptions, commit } from './operations/commit.ts';
export {
  type CompareDifference,
  type CompareOptions,
  type CompareResult,
  compare,
} from './operations/compare.ts';
export type { OperationControl } from './operations/control.ts';
export { convert } from './operations/convert.ts';
export type { ConvertOptions } from './operations/convert-options.ts';
export {
  type ConvertStreamOptions,
  convertStream,
  type StreamedImageOptions,
} from './operations/convert-stream.ts';
export type { BitmapCopying } from './operations/copy-bitmaps.ts';
export { type CreateOptions, create } from './operations/create.ts';
export {
  CELL_KINDS,
  type CellKind,
  type DiskPicture,
  type DiskPictureOptions,
  diskPicture,
} from './operations/disk-picture.ts';
export {
  type BitmapInfo,
  backingChainInfo,
  type EncryptionInfo,
  type ImageInfo,
  info,
  type LuksInfo,
  type LuksSlotInfo,
  type Qcow2Info,
  type SnapshotInfo,
} from './operations/info.ts';
export { type MapEntry, type MapOptions, map } from './operations/map.ts';
export { type MeasureOptions, type MeasureResult, measure } from './operations/measure.ts';
export { pictureSvg } from './operations/picture-svg.ts';
export { type NewBacking, type RebaseOptions, rebase } from './operations/rebase.ts';
export {
  type RepairMode,
  type RepairOptions,
  type RepairResult,
  repair,
} from './operations/repair.ts';
export { type ResizeOptions, resize } from './operations/resize.ts';
export {
  applySnapshot,
  type CreateSnapshotOptions,
  createSnapshot,
  deleteSnapshot,
} from './operations/snapshot.ts';
export { type ReadableImage, type ReadableOptions, toReadable } from './operations/stream.ts';
export type { ImageTarget, WritableStorage } from './operations/target.ts';
export { BlobStorage } from './storage/blob.ts';
export type { ByteSource } from './storage/byte-stream.ts';
export { type HttpOptions, HttpStorage } from './storage/http.ts';
export type { HttpRequestOptions } from './storage/http-request.ts';
export { MemoryStorage } from './storage/memory.ts';
export { OpfsStorage, type SyncAccessHandle, type SyncFileHandle } from './storage/opfs.ts';
export {
  RecordingStorage,
  type StorageChange,
  type StorageEvent,
  type StorageFlush,
  StorageLog,
} from './storage/recording.ts';
export type { FileHandle, ImageSource } from './storage/source.ts';
export type { Extent, MaybePromise, Storage } from './storage/storage.ts';
export { StreamStorage, type WritableFileStream } from './storage/stream.ts';
