/** Writes progress the way scripts and front ends for qemu-img read it. */
export class Progress {
  readonly #write: ((text: string) => void) | undefined;
  #percent = 0;
  #shown = 0;

  /** @param write where the lines go; absent: only {@link line} is wanted */
  constructor(write?: (text: string) => void) {
    this.#write = write;
    this.#show();
  }

  /** Takes the bytes done of all bytes to do; prints when a full percent was added. */
  update(doneBytes: number, totalBytes: number): void {
    if (totalBytes <= 0) return;
    this.#percent = Math.min(100, (doneBytes / totalBytes) * 100);
    const finished = this.#percent === 100 && this.#shown < 100;
    if (finished || this.#percent >= this.#shown + 1) this.#show();
  }

  /** The last line. After a failure the percentage stays where it was. */
  end(succeeded: boolean): void {
    if (succeeded) {
      this.#percent = 100;
      this.#show();
    }
    this.#write?.('\n');
  }

  /** The state as text, without an end of line. */
  line(): string {
    return `    (${this.#percent.toFixed(2)}/100%)`;
  }

  #show(): void {
    this.#shown = this.#percent;
    this.#write?.(`${this.line()}\r`);
  }
}
