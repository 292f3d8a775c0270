import type { ChunkRecord } from '../image/target.ts';
import { ConvertStep } from '../operations/convert-step.ts';
import {
  inlineStreamExecutor,
  nextChunk,
  StreamChunks,
  type StreamConversion,
  type StreamExecutor,
} from '../operations/convert-stream.ts';
import { FileStorage } from '../storage/file.ts';
import type { StreamedChunk, StreamStart, TargetPath } from './messages.ts';
import { WorkShare } from './work-share.ts';
import { defaultThreads, isOne, type ThreadOptions, WorkerPool } from './worker-pool.ts';

/** Chunks kept for each core, so that no thread waits while the next one is being read. */
const SLOTS_PER_CORE = 3;

/** Up to so many chunks the calling thread is done sooner than others would have started. */
const INLINE_CHUNKS = 4;

/**
 * Converts a stream on several threads if it is to be compressed: the calling one reads. Otherwise, too,
 * the target is written while the stream is read.
 */
export function threadedStreamExecutor(
  target: TargetPath,
  { threads = defaultThreads() }: ThreadOptions,
): StreamExecutor {
  return {
    sharesState: !isOne(threads),
    run(conversion, finished) {
      const { target: kind } = conversion.step;
      const compresses = kind.format === 'qcow2' && kind.compressionType !== null;
      if (isOne(threads) || !compresses) return runBeside(conversion, target, finished);
      return runOnThreads(conversion, target, threads, finished);
    },
  };
}

/** On the calling thread, with calls that other threads do. */
async function runBeside(
  conversion: StreamConversion,
  { name, path: realPath }: TargetPath,
  finished: Parameters<StreamExecutor['run']>[1],
): Promise<number> {
  const storage = new FileStorage(name, { mode: 'r+', realPath, share: true });
  try {
    return await inlineStreamExecutor.run({ ...conversion, storage }, finished);
  } finally {
    storage.close();
  }
}

async function runOnThreads(
  conversion: StreamConversion,
  target: TargetPath,
  threads: NonNullable<ThreadOptions['threads']>,
  finished: Parameters<StreamExecutor['run']>[1],
): Promise<number> {
  const chunks = new ChunkSlots(conversion, SLOTS_PER_CORE * Math.max(2, defaultThreads()));
  if (await chunks.endWithin(INLINE_CHUNKS)) return runInline(conversion, chunks, finished);
  const { step, allocatorState } = conversion;
  const share = new WorkShare();
  const data: StreamStart = {
    target,
    step,
    allocatorState,
    slots: chunks.slots,
    share: share.state,
  };
  const url = new URL('./stream-worker.js', import.meta.url);
  const pool = new WorkerPool<StreamedChunk, ChunkRecord | null>(
    share,
    {
      steps: chunks,
      comeSlowly: true,
      thread: { url, data },
      async ended(sequence, outcome) {
        if ('error' in outcome) throw outcome.error;
        await finished(outcome.value);
        chunks.release(sequence);
        return false;
      },
    },
    threads,
  );
  await pool.run();
  return chunks.length;
}

/** A short stream on the calling thread. */
async function runInline(
  conversion: StreamConversion,
  chunks: ChunkSlots,
  finished: Parameters<StreamExecutor['run']>[1],
): Promise<number> {
  let bytes = chunks.slots;
  const source = new StreamChunks(async (_start, into) => into.set(bytes));
  const parts = { ...conversion, source, dataStorage: conversion.storage };
  const converter = await ConvertStep.prepare(parts);
  for await (const { start, slot } of chunks) {
    bytes = chunks.bytesOf(slot);
    await finished(await converter.run(start, (allocate) => allocate()));
  }
  return chunks.length;
}

/** The chunks of a stream, each in a slot of memory that is shared until it is released. */
class ChunkSlots implements AsyncIterableIterator<StreamedChunk> {
  readonly slots: Uint8Array;
  /** Bytes that have come. */
  length = 0;
  readonly #conversion: StreamConversion;
  readonly #free: number[];
  /** Chunks that were read before they were asked for. */
  readonly #ahead: StreamedChunk[] = [];
  /** Slots by the sequence number of the chunk. */
  readonly #taken = new Map<number, number>();
  #count = 0;
  #isGivenUp = false;
  #wake: () => void = () => {};

  constructor(conversion: StreamConversion, count: number) {
    this.#conversion = conversion;
    this.slots = new Uint8Array(new SharedArrayBuffer(count * conversion.step.chunkBytes));
    this.#free = Array.from({ length: count }, (_, slot) => slot);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Reads so many chunks ahead, and tells whether they are all. */
  async endWithin(count: number): Promise<boolean> {
    while (this.#ahead.length < count) {
      const next = await this.#read();
      if (next.done) return true;
      this.#ahead.push(next.value);
    }
    return this.#conversion.stream.isAtEnd();
  }

  async next(): Promise<IteratorResult<StreamedChunk, undefined>> {
    const value = this.#ahead.shift();
    return value ? { done: false, value } : this.#read();
  }

  /** The memory of a slot. */
  bytesOf(slot: number): Uint8Array {
    const { chunkBytes } = this.#conversion.step;
    return this.slots.subarray(slot * chunkBytes, (slot + 1) * chunkBytes);
  }

  async #read(): Promise<IteratorResult<StreamedChunk, undefined>> {
    const { stream } = this.#conversion;
    while (this.#free.length === 0 && !this.#isGivenUp)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    if (this.#isGivenUp || (await stream.isAtEnd())) return { done: true, value: undefined };
    const slot = this.#free.shift()!;
    const start = this.length;
    const length = await nextChunk(this.#conversion, start, this.bytesOf(slot));
    this.length += length;
    this.#taken.set(this.#count++, slot);
    return { done: false, value: { start, length, slot } };
  }

  async return(): Promise<IteratorResult<StreamedChunk, undefined>> {
    this.#isGivenUp = true;
    this.#wake();
    await this.#conversion.stream.close();
    return { done: true, value: undefined };
  }

  /** The chunk of a sequence number is done. */
  release(sequence: number): void {
    this.#free.push(this.#taken.get(sequence)!);
    this.#taken.delete(sequence);
    this.#wake();
  }
}
