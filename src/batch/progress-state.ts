import type { BatchEvent, JobPhase } from './events.ts';

/** An image that is being converted. */
export interface RunningImage {
  job: number;
  /** Milliseconds, on the clock the events were taken with. */
  began: number;
  /** Guest bytes; both 0 until the size is known. */
  done: number;
  total: number;
  phase: JobPhase;
  /** Number of the phase, from 0, of how many. */
  step: number;
  steps: number;
  /** Bytes a second of the last seconds; null until known. */
  rate: number | null;
}

/** Part of an image that is done, 0 to 1. */
export function imageFraction({ done, total, step, steps }: RunningImage): number {
  return total > 0 ? (step + done / total) / steps : step / steps;
}

/** How far a batch is, from its events. */
export class BatchProgress {
  total = 0;
  succeeded = 0;
  failed = 0;
  /** Done by an earlier run. */
  skipped = 0;
  began = 0;
  /** In the order in which they began. */
  readonly running = new Map<number, RunningImage>();

  /** @param now milliseconds */
  update(event: BatchEvent, now: number): void {
    switch (event.event) {
      case 'batch-started':
        this.total = event.total;
        this.began = now;
        break;
      case 'job-started':
        this.running.set(event.job, {
          job: event.job,
          began: now,
          done: 0,
          total: 0,
          phase: 'convert',
          step: 0,
          steps: 1,
          rate: null,
        });
        break;
      case 'job-progress': {
        const { done, total, phase, step, steps, rate } = event;
        const image = this.running.get(event.job);
        if (image) Object.assign(image, { done, total, phase, step, steps, rate });
        break;
      }
      case 'job-retry':
        this.running.delete(event.job);
        break;
      case 'job-skipped':
        this.skipped++;
        break;
      case 'job-finished':
        this.running.delete(event.job);
        this.succeeded++;
        break;
      case 'job-failed':
        this.running.delete(event.job);
        this.failed++;
        break;
    }
  }

  /** Part of the images that is done, 0 to 1; running ones count by what is done of them. */
  get fraction(): number {
    let images = this.ended;
    for (const image of this.running.values()) images += imageFraction(image);
    return this.total === 0 ? 0 : images / this.total;
  }

  /** Images that are done or failed. */
  get ended(): number {
    return this.succeeded + this.failed + this.skipped;
  }
}
