import { parentPort, workerData } from 'node:worker_threads';
import { isQcow2Error } from '../errors.ts';
import type { Turn } from '../image/target.ts';
import { createKernel } from '../kernel/kernel.ts';
import { Source } from '../operations/chunks.ts';
import { ConvertStep } from '../operations/convert.ts';
import { FileStorage } from '../storage/file.ts';
import { openSource } from './input-files.ts';
import type { TargetPath, WorkerReply, WorkerRequest, WorkerStart } from './messages.ts';

/** One thread of a conversion: its own descriptors, kernel and buffers; chunks come as messages. */
const start = workerData as WorkerStart;
const port = parentPort!;

function reply(message: WorkerReply): void {
  port.postMessage(message);
}

function replyError(error: unknown): void {
  const known = isQcow2Error(error);
  const code = known ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  const stack = error instanceof Error ? error.stack : undefined;
  reply({ error: { code, message, details: known ? error.details : {}, stack } });
}

/** Waits until all chunks before `sequence` have allocated. Blocks: nothing else runs here. */
function turnOf(sequence: number): Turn {
  return (allocate) => {
    for (let now = Atomics.load(start.turn, 0); now !== sequence; ) {
      Atomics.wait(start.turn, 0, now);
      now = Atomics.load(start.turn, 0);
    }
    allocate();
    Atomics.store(start.turn, 0, sequence + 1);
    Atomics.notify(start.turn, 0);
  };
}

function openTarget({ name, path }: TargetPath): FileStorage {
  return new FileStorage(name, { mode: 'r+', sync: true, realPath: path });
}

async function main(): Promise<void> {
  const kernel = createKernel();
  const images = await openSource(start.files, kernel);
  const target = openTarget(start.target);
  const data = start.data.path === start.target.path ? target : openTarget(start.data);
  const { step, allocatorState } = start;
  const source = new Source(images, start.range);
  const converter = await ConvertStep.prepare(source, target, data, kernel, step, allocatorState);
  let queue: Promise<void> = Promise.resolve();
  const close = async (): Promise<void> => {
    for (const image of images) await image.close();
    target.close();
    data.close();
    port.close();
  };
  port.on('message', (request: WorkerRequest) => {
    queue = queue.then(async () => {
      if (request === null) return close();
      const record = await converter.run(request.start, turnOf(request.sequence));
      reply({ start: request.start, record });
    });
    queue.catch(replyError);
  });
  reply({ ready: true });
}

main().catch(replyError);
