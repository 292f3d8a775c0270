/** What pages need besides: conversion in a worker. For browsers only. */
export {
  type ByteSink,
  convertInWorker,
  type StreamTarget,
  type WorkerConversion,
  type WorkerOptions,
  type WorkerResult,
} from './browser/convert-in-worker.ts';
export type { WorkerPlace } from './browser/start-worker.ts';
