import type { Turn } from '../image/target.ts';

/** Slots of the state, which the threads of one operation share. */
const TAKEN = 0;
/** Sequence number of the step whose turn to allocate it is; -1 once all is stopped. */
const TURN = 1;
/** Steps listed so far; -1 less their number when there will be no more. */
const LISTED = 2;
const SLOTS = 3;

/** After so long a wait this thread looks whether the one it waits for has died. */
const PATIENCE_MILLISECONDS = 100;

/**
 * How threads share the steps of an operation out: one of them lists the steps, each takes the first
 * that no other has taken, and where the order matters they wait for their turns.
 */
export class WorkShare {
  /** On a SharedArrayBuffer: hand it to the other threads. */
  readonly state: Int32Array<SharedArrayBuffer>;

  constructor(state = new Int32Array(new SharedArrayBuffer(SLOTS * 4))) {
    this.state = state;
  }

  /** There are `count` steps, and may be more. */
  list(count: number): void {
    Atomics.store(this.state, LISTED, count);
    Atomics.notify(this.state, LISTED);
  }

  /** There are `count` steps, or no others matter any more. */
  end(count: number): void {
    this.list(-1 - count);
  }

  /** No thread begins another step, and whoever waits for a turn gives up. */
  stop(): void {
    Atomics.store(this.state, TURN, -1);
    Atomics.notify(this.state, TURN);
    this.end(0);
  }

  /** Whether all was stopped. */
  get isStopped(): boolean {
    return Atomics.load(this.state, TURN) < 0;
  }

  /** Sequence number of the next step, if there is one. */
  take(): number {
    return Atomics.add(this.state, TAKEN, 1);
  }

  /** Whether there is a step of this number. Blocks until that is known. */
  has(sequence: number): boolean {
    while (true) {
      const listed = Atomics.load(this.state, LISTED);
      if (listed < 0) return sequence < -1 - listed;
      if (sequence < listed) return true;
      Atomics.wait(this.state, LISTED, listed);
    }
  }

  /** Waits until every step before `sequence` has allocated, then lets the next one go. Blocks. */
  turnOf(sequence: number): Turn {
    return async (allocate) => {
      for (let now = this.#turn(); now !== sequence; now = this.#turn())
        if (Atomics.wait(this.state, TURN, now, PATIENCE_MILLISECONDS) === 'timed-out')
          await new Promise((resolve) => setImmediate(resolve));
      allocate();
      Atomics.compareExchange(this.state, TURN, sequence, sequence + 1);
      Atomics.notify(this.state, TURN);
    };
  }

  #turn(): number {
    const turn = Atomics.load(this.state, TURN);
    if (turn < 0) throw new Error('stopped by another thread');
    return turn;
  }
}
