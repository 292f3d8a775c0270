import type { BatchEvent } from './events.ts';

/** An image that is being converted. */
export interface RunningImage {
  job: number;
  /** Milliseconds, on the clock the events were taken with. */
  began: number;
  /** Guest bytes; both 0 until the size is known. */
  done: number;
  total: number;
}

/** How far a batch is, from its events. */
export class BatchProgress {
  total = 0;
  succeeded = 0;
  failed = 0;
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
        this.running.set(event.job, { job: event.job, began: now, done: 0, total: 0 });
        break;
      case 'job-progress':
        Object.assign(this.running.get(event.job) ?? {}, { done: event.done, total: event.total });
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
    let images = this.succeeded + this.failed;
    for (const { done, total } of this.running.values()) if (total > 0) images += done / total;
    return this.total === 0 ? 0 : images / this.total;
  }
}
