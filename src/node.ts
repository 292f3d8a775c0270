/** The package in Node: everything of `index.ts`, and files, threads and batches. */
export { runBatch } from './batch/local-runner.ts';
export * from './index.ts';
export { type CreateFileOptions, createFile } from './node/create-file.ts';
export { fileResolver, type OpenImageOptions, openImage } from './node/open-image.ts';
export { FileStorage } from './storage/file.ts';
export { type ConvertFileOptions, convertFile } from './workers/convert-file.ts';
