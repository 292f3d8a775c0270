import { Qcow2Error } from '../errors.ts';

/** Bytes that come one after the other: a `Readable` of Node, a `ReadableStream`, a generator. */
export type ByteSource = AsyncIterable<Uint8Array> | ReadableStream<Uint8Array>;

/** Bytes gathered before they are used, so that a source of small pieces costs no more. */
type Next = () => Promise<{ done?: boolean | undefined; value?: Uint8Array | undefined }>;

/** Reads bytes that come once, in order. */
export class ByteStream {
  /** Shown in messages. */
  readonly name: string;
  readonly #next: Next;
  readonly #cancel: () => unknown;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.close();
  /** What has come and was not read. */
  #rest = new Uint8Array(0);
  #isAtEnd = false;
  #closed = false;

  /**
   * How much of the source has been used, 0 to 1; undefined where nobody knows how long it is. What was
   * used may be some pieces ahead of what was read.
   */
  readonly fraction: (() => number) | undefined;

  /** @param signal ends waiting for bytes with an `ABORTED` error, and closes the source */
  constructor(source: ByteSource, name: string, signal?: AbortSignal, fraction?: () => number) {
    this.name = name;
    this.fraction = fraction;
    this.#signal = signal;
    const { next, cancel } = opened(source);
    this.#next = next;
    this.#cancel = cancel;
    signal?.addEventListener('abort', this.#onAbort);
  }

  /**
   * Fills `into` with the bytes that come next. Returns how many: fewer only at the end.
   * @throws Qcow2Error IO: the source fails; ABORTED; what the source throws, if it is a Qcow2Error
   */
  async read(into: Uint8Array): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const length = await this.readSome(into.subarray(done));
      if (length === 0) break;
      done += length;
    }
    return done;
  }

  /** As `read`, but gives what is there as soon as there is a byte; 0 only at the end. */
  async readSome(into: Uint8Array): Promise<number> {
    if (await this.isAtEnd()) return 0;
    const length = Math.min(this.#rest.length, into.length);
    into.set(this.#rest.subarray(0, length));
    this.#rest = this.#rest.subarray(length);
    return length;
  }

  /** The bytes that come next, `length` of them if there are so many; `read` gives them again. */
  async peek(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const found = bytes.subarray(0, await this.read(bytes));
    const joined = new Uint8Array(found.length + this.#rest.length);
    joined.set(found);
    joined.set(this.#rest, found.length);
    this.#rest = joined;
    return found;
  }

  /** Whether there is no byte left; waits until that is known. */
  async isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) if (!(await this.#more())) return true;
    return false;
  }

  /** Gives the source up; nothing more is read. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // What fails now is of no use to anybody.
    await Promise.resolve(this.#cancel()).catch(() => undefined);
  }

  /** Waits for the next piece; false at the end. */
  async #more(): Promise<boolean> {
    if (this.#isAtEnd) return false;
    try {
      this.#requireGoingOn();
      const { done, value } = await this.#next();
      this.#requireGoingOn();
      if (done || value === undefined) {
        this.#isAtEnd = true;
        return false;
      }
      this.#rest = value as Uint8Array<ArrayBuffer>;
      return true;
    } catch (cause) {
      this.#requireGoingOn();
      if (cause instanceof Qcow2Error) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      const text = `Could not read ${this.name}: ${why}`;
      throw new Qcow2Error('IO', text, { file: this.name }, { cause });
    }
  }

  #requireGoingOn(): void {
    if (!this.#closed) return;
    if (this.#signal?.aborted) throw new Qcow2Error('ABORTED', `reading ${this.name} was aborted`);
    throw new Qcow2Error('IO', `${this.name} is closed`, { file: this.name });
  }
}

function opened(source: ByteSource): { next: Next; cancel: () => unknown } {
  // Not every browser can iterate over a stream, and cancelling it ends a read that waits.
  if ('getReader' in source) {
    const reader = source.getReader();
    return { next: () => reader.read(), cancel: () => reader.cancel() };
  }
  const iterator = source[Symbol.asyncIterator]();
  const { destroy } = source as { destroy?: () => void };
  return {
    next: () => iterator.next(),
    cancel: () => (destroy ? destroy.call(source) : iterator.return?.()),
  };
}
