/** The package in Node: everything of `index.ts`, and files, threads and batches. */
export type {
  BatchCounts,
  BatchEvent,
  BatchSummary,
  JobChecksum,
  JobEnd,
  JobFailed,
  JobFiles,
  JobFinished,
  JobPhase,
  JobProgress,
  JobRepeated,
  JobRetry,
  JobSkipped,
  JobStarted,
  JobThreads,
  TargetFigures,
} from './batch/events.ts';
export type { FileIdentity } from './batch/file-identity.ts';
export { readJobFile } from './batch/job-file.ts';
export { jobId } from './batch/job-id.ts';
export type { BatchJob } from './batch/jobs.ts';
export { type BatchOptions, runBatch } from './batch/local-runner.ts';
export type { MemoryCeilings } from './batch/memory.ts';
export { BatchRecorder, type BatchReport, type ReportJob } from './batch/report.ts';
export { htmlReport } from './batch/report-html.ts';
export { isTransient } from './batch/retry.ts';
export {
  type JobKernels,
  type JobResult,
  type PhaseProgress,
  type RunJobOptions,
  runJob,
} from './batch/run-job.ts';
export * from './index.ts';
export { type AdoptFileOptions, type AdoptFileResult, adoptFile } from './node/adopt-file.ts';
export { type ChecksumOptions, checksum } from './node/checksum.ts';
export { type CommitFileOptions, commitFile } from './node/commit-file.ts';
export { type CreateFileOptions, createFile } from './node/create-file.ts';
export type { ChecksumAlgorithm } from './node/disk-digest.ts';
export {
  fileResolver,
  type NamedFiles,
  type OpenImageOptions,
  openImage,
} from './node/open-image.ts';
export type { OpenStorageOptions } from './node/open-storage.ts';
export { type RebaseFileOptions, rebaseFile } from './node/rebase-file.ts';
export { type SpillOptions, spillStorage } from './node/spill.ts';
export { type FileOptions, FileStorage } from './storage/file.ts';
export {
  type ComparedFile,
  type CompareFilesOptions,
  compareFiles,
} from './workers/compare-files.ts';
export {
  type ConvertFileOptions,
  type ConvertFileResult,
  convertFile,
  type WrittenTarget,
} from './workers/convert-file.ts';
export type { InputFile, InputFiles } from './workers/messages.ts';
export type { ThreadOptions } from './workers/worker-pool.ts';
