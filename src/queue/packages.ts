import { Qcow2Error } from '../errors.ts';

/** What a queue is made of: optional peers, loaded when a queue is asked for. */
export interface QueuePackages {
  bullmq: typeof import('bullmq');
  Redis: typeof import('ioredis').Redis;
}

/** @throws Qcow2Error NOT_FOUND: they are not installed */
export async function loadQueuePackages(): Promise<QueuePackages> {
  try {
    const [bullmq, { Redis }] = await Promise.all([import('bullmq'), import('ioredis')]);
    return { bullmq, Redis };
  } catch (cause) {
    if (!/MODULE_NOT_FOUND$/.test((cause as NodeJS.ErrnoException).code ?? '')) throw cause;
    const text = 'a queue needs two packages that are not here: npm install bullmq ioredis';
    throw new Qcow2Error('NOT_FOUND', text, {}, { cause });
  }
}
