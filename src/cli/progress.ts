/** Milliseconds between two lines while nobody knows how much there is. */
const INTERVAL = 500;
const MIB = 2 ** 20;

/**
 * Writes progress the way scripts and front ends for qemu-img read it: a percentage. Of a stream whose length
 * nobody knows it tells what has come, and how fast.
 */
export class Progress {
  readonly #write: ((text: string) => void) | undefined;
  #percent = 0;
  #shown = 0;
  /** What was told last of a stream: bytes, when, and bytes a second before that. */
  #read: { bytes: number; at: number; rate: number } | undefined;
  /** Characters of the last line. */
  #width = 0;

  /** @param write where the lines go; absent: only {@link line} is wanted */
  constructor(write?: (text: string) => void) {
    this.#write = write;
    this.#show();
  }

  /**
   * Takes the bytes done of all bytes to do; prints when a full percent was added. Of a stream `totalBytes`
   * may be Infinity.
   */
  update(doneBytes: number, totalBytes: number): void {
    if (totalBytes <= 0) return;
    if (totalBytes === Number.POSITIVE_INFINITY) {
      this.#came(doneBytes, performance.now());
      return;
    }
    this.#read = undefined;
    this.#percent = Math.min(100, (doneBytes / totalBytes) * 100);
    const finished = this.#percent === 100 && this.#shown < 100;
    if (finished || this.#percent >= this.#shown + 1) this.#show();
  }

  /** The last line. After a failure the percentage stays where it was. */
  end(succeeded: boolean): void {
    if (succeeded) {
      this.#read = undefined;
      this.#percent = 100;
      this.#show();
    }
    this.#write?.('\n');
  }

  /** The state as text, without an end of line. */
  line(): string {
    if (this.#read === undefined) return `    (${this.#percent.toFixed(2)}/100%)`;
    const { bytes, rate } = this.#read;
    const speed = rate > 0 ? `, ${(rate / MIB).toFixed(1)} MiB/s` : '';
    return `    (${(bytes / MIB).toFixed(1)} MiB read${speed})`;
  }

  #came(bytes: number, now: number): void {
    const last = this.#read;
    if (last && bytes >= last.bytes && now - last.at < INTERVAL) return;
    const isOn = last !== undefined && bytes >= last.bytes;
    const rate = isOn ? (bytes - last.bytes) / ((now - last.at) / 1000) : 0;
    this.#read = { bytes, at: now, rate };
    this.#show();
  }

  #show(): void {
    this.#shown = this.#percent;
    const line = this.line();
    // What a longer line has left is wiped.
    this.#write?.(`${line.padEnd(this.#width)}\r`);
    this.#width = line.length;
  }
}
