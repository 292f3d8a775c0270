import type { DigestInOrder } from '../operations/disk-digest.ts';
import type { WorkShare } from './work-share.ts';

/** Parts that wait for those before them; so far may one thread be ahead of another. */
const PLACES = 4;

/** Place of the counter in the state: parts taken so far. Behind it one number per place. */
const TAKEN = 0;

/** After so long a wait a thread looks whether the one it waits for has died. */
const PATIENCE_MILLISECONDS = 100;

/** What other threads need to put parts into a ring. */
export interface DigestRingState {
  /** Parts taken; then per place the sequence number of its part, plus 1. */
  counters: Int32Array<SharedArrayBuffer>;
  /** Per place: guest offset of the part, its guest bytes, and its length. */
  numbers: Float64Array<SharedArrayBuffer>;
  parts: Uint8Array<SharedArrayBuffer>;
}

/**
 * Hands the parts of a disk that threads have read, in any order, to the one that takes its digest in
 * the order of the disk: through memory they share, in which few parts find room.
 */
export class DigestRing {
  readonly state: DigestRingState;
  readonly #share: WorkShare;
  readonly #partBytes: number;

  constructor(share: WorkShare, state: DigestRingState) {
    this.#share = share;
    this.state = state;
    this.#partBytes = state.parts.length / PLACES;
  }

  /** @param partBytes most bytes of a part */
  static create(share: WorkShare, partBytes: number): DigestRing {
    return new DigestRing(share, {
      counters: new Int32Array(new SharedArrayBuffer(4 * (1 + PLACES))),
      numbers: new Float64Array(new SharedArrayBuffer(8 * 3 * PLACES)),
      parts: new Uint8Array(new SharedArrayBuffer(partBytes * PLACES)),
    });
  }

  /** Parts taken so far; the next one is that of the step of this number. */
  get taken(): number {
    return Atomics.load(this.state.counters, TAKEN);
  }

  /** Whether there is room for the part of a step. */
  hasRoom(sequence: number): boolean {
    return sequence - this.taken < PLACES;
  }

  /** Puts a part in that stands for `length` guest bytes at `start`. Blocks until there is room. */
  async put(sequence: number, start: number, part: Uint8Array, length: number): Promise<void> {
    for (let taken = this.taken; sequence - taken >= PLACES; taken = this.taken)
      await this.#wait(TAKEN, taken);
    const place = sequence % PLACES;
    this.state.parts.set(part, place * this.#partBytes);
    this.state.numbers.set([start, part.length, length], 3 * place);
    Atomics.store(this.state.counters, 1 + place, sequence + 1);
    Atomics.notify(this.state.counters, 1 + place);
  }

  /** Adds all parts to a digest whose turn it is. One call at a time, by one thread. */
  async takeTo(digest: DigestInOrder): Promise<void> {
    for (let next = this.taken; this.#isIn(next); next++) {
      const place = next % PLACES;
      const [start, partLength, length] = this.state.numbers.subarray(3 * place);
      const from = place * this.#partBytes;
      await digest.add(start!, this.state.parts.subarray(from, from + partLength!), length!);
      this.advance();
    }
  }

  /** The part whose turn it was is taken. */
  advance(): void {
    Atomics.add(this.state.counters, TAKEN, 1);
    Atomics.notify(this.state.counters, TAKEN);
  }

  /** Blocks until the next part is in. */
  async nextPart(): Promise<void> {
    const { taken: next } = this;
    while (!this.#isIn(next)) {
      const place = 1 + (next % PLACES);
      await this.#wait(place, Atomics.load(this.state.counters, place));
    }
  }

  #isIn(sequence: number): boolean {
    return Atomics.load(this.state.counters, 1 + (sequence % PLACES)) === sequence + 1;
  }

  /** Blocks while a counter is `value`, for a while. */
  async #wait(counter: number, value: number): Promise<void> {
    if (this.#share.isStopped) throw new Error('stopped by another thread');
    const result = Atomics.wait(this.state.counters, counter, value, PATIENCE_MILLISECONDS);
    if (result === 'timed-out') await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The thread that takes the digest, and may read parts of the disk itself. */
export class DigestTaker {
  readonly #ring: DigestRing;
  readonly #digest: DigestInOrder;
  /** Settles when what was in the ring is taken. */
  #taking: Promise<void> = Promise.resolve();

  constructor(ring: DigestRing, digest: DigestInOrder) {
    this.#ring = ring;
    this.#digest = digest;
  }

  /** Takes all parts whose turn it is. */
  take(): Promise<void> {
    this.#taking = this.#taking.then(() => this.#ring.takeTo(this.#digest));
    return this.#taking;
  }

  /**
   * Takes what this thread has read in step `sequence`, or puts it into the ring. When it returns there
   * is room for every step before this one: this thread may block until they have ended.
   */
  async read(sequence: number, start: number, bytes: Uint8Array): Promise<void> {
    const part = this.#digest.digest.part(bytes);
    for (await this.take(); ; await this.take()) {
      if (this.#ring.taken === sequence) break;
      if (this.#ring.hasRoom(sequence)) return this.#ring.put(sequence, start, part, bytes.length);
      await this.#ring.nextPart();
    }
    await this.#digest.add(start, part, bytes.length);
    this.#ring.advance();
  }
}
