/** A number of places; who finds none free waits in line. */
export class Slots {
  #free: number;
  readonly #line: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#line.push(resolve));
  }

  give(): void {
    const next = this.#line.shift();
    if (next) next();
    else this.#free++;
  }
}

/** Milliseconds before a second look. */
const SECOND_LOOK = 20;

/** Fires when nothing has happened for some time. */
export class IdleWatch {
  fired = false;
  readonly #milliseconds: number;
  readonly #onIdle: () => void;
  #last = performance.now();
  #isSecondLook = false;
  #timer: ReturnType<typeof setTimeout>;

  constructor(milliseconds: number, onIdle: () => void) {
    this.#milliseconds = milliseconds;
    this.#onIdle = onIdle;
    this.#timer = setTimeout(() => this.#look(), milliseconds);
  }

  touch(): void {
    this.#last = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    const left = this.#milliseconds - (performance.now() - this.#last);
    const isIdle = left <= 1;
    this.#isSecondLook &&= isIdle;
    if (isIdle && this.#isSecondLook) {
      this.fired = true;
      this.#onIdle();
      return;
    }
    // The thread itself may have been busy: what has come meanwhile is received before a second look.
    this.#isSecondLook = isIdle;
    this.#timer = setTimeout(() => this.#look(), Math.max(left, SECOND_LOOK));
  }
}
