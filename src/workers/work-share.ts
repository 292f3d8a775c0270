import type { Turn } from '../image/target.ts';

/** Slots of the state, which the threads of one operation share. */
const TAKEN = 0;
/** Sequence number of the step whose turn to allocate it is. */
const TURN = 1;
const ENDED = 2;
const STOPPED = 3;
const SLOTS = 4;

/** Steps that may have been taken and not yet reported, so that reports do not pile up. */
const MOST_OPEN = 64;

/** After so long a wait this thread looks whether the one it waits for has died. */
const PATIENCE_MILLISECONDS = 100;

/** A step of an operation, and its place in the order of all. */
export interface TakenStep<Step> {
  sequence: number;
  step: Step;
}

/**
 * How threads share the steps of an operation out without telling each other anything: all of them
 * list the same steps in the same order, and each takes the first that no other has taken.
 */
export class WorkShare {
  /** On a SharedArrayBuffer: hand it to the other threads. */
  readonly state: Int32Array<SharedArrayBuffer>;
  readonly #gathers: boolean;

  /** @param gathers this thread gathers the reports of the others */
  constructor(gathers: boolean, state = new Int32Array(new SharedArrayBuffer(SLOTS * 4))) {
    this.#gathers = gathers;
    this.state = state;
  }

  /**
   * The steps this thread takes, in order, until there are no more or somebody stops.
   * @param onTake told the sequence number before the step is looked for, which may fail
   */
  async *mine<Step>(
    steps: AsyncIterable<Step>,
    onTake: (sequence: number) => void = () => {},
  ): AsyncGenerator<TakenStep<Step>> {
    let sequence = 0;
    let taken = this.#take();
    onTake(taken);
    for await (const step of steps) {
      if (taken < 0) return;
      if (sequence++ !== taken) continue;
      yield { sequence: taken, step };
      taken = this.#take();
      onTake(taken);
    }
  }

  /** Waits until every step before `sequence` has allocated, then lets the next one go. Blocks. */
  turnOf(sequence: number): Turn {
    return async (allocate) => {
      for (let now = this.#turn(); now !== sequence; now = this.#turn())
        if (Atomics.wait(this.state, TURN, now, PATIENCE_MILLISECONDS) === 'timed-out')
          await new Promise((resolve) => setImmediate(resolve));
      allocate();
      Atomics.add(this.state, TURN, 1);
      Atomics.notify(this.state, TURN);
    };
  }

  /** A step that was taken has been reported. */
  ended(): void {
    Atomics.add(this.state, ENDED, 1);
    Atomics.notify(this.state, ENDED);
  }

  /** No thread takes another step; whoever waits for a turn gives up. */
  stop(): void {
    Atomics.store(this.state, STOPPED, 1);
    // A change, so that nobody goes to sleep on what it saw before.
    Atomics.store(this.state, TURN, -1);
    Atomics.notify(this.state, TURN);
    this.ended();
  }

  /** Sequence number of the next step, or -1. */
  #take(): number {
    // The thread that gathers the reports would wait for itself.
    while (!this.#gathers && !this.#isStopped()) {
      const ended = Atomics.load(this.state, ENDED);
      if (Atomics.load(this.state, TAKEN) - ended < MOST_OPEN) break;
      Atomics.wait(this.state, ENDED, ended);
    }
    return this.#isStopped() ? -1 : Atomics.add(this.state, TAKEN, 1);
  }

  #isStopped(): boolean {
    return Atomics.load(this.state, STOPPED) !== 0;
  }

  #turn(): number {
    if (this.#isStopped()) throw new Error('stopped by another thread');
    return Atomics.load(this.state, TURN);
  }
}
