/** The package in Node: everything of `index.ts`, and files, threads and batches. */
export type {
  BatchEvent,
  BatchSummary,
  JobFailed,
  JobFiles,
  JobFinished,
  JobProgress,
  JobStarted,
} from './batch/events.ts';
export type { BatchJob } from './batch/jobs.ts';
export { type BatchOptions, runBatch } from './batch/local-runner.ts';
export * from './index.ts';
export { type AdoptFileOptions, type AdoptFileResult, adoptFile } from './node/adopt-file.ts';
export { type CreateFileOptions, createFile } from './node/create-file.ts';
export {
  fileResolver,
  type NamedFiles,
  type OpenImageOptions,
  openImage,
} from './node/open-image.ts';
export type { OpenStorageOptions } from './node/open-storage.ts';
export { type SpillOptions, spillStorage } from './node/spill.ts';
export { type FileOptions, FileStorage } from './storage/file.ts';
export { type CompareFilesOptions, compareFiles } from './workers/compare-files.ts';
export { type ConvertFileOptions, convertFile } from './workers/convert-file.ts';
export type { InputFile, InputFiles } from './workers/messages.ts';
export type { ThreadOptions } from './workers/worker-pool.ts';
