const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const CLEAR_BELOW = '\u001b[J';

/** Lines at the bottom of a terminal that are redrawn in place. The cursor is hidden meanwhile. */
export class LiveLines {
  readonly #write: (text: string) => void;
  #drawn = 0;
  #open = false;

  /** @param write prints to the terminal */
  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /**
   * Shows these lines instead of the last ones.
   * @param lines each narrower than the terminal
   */
  draw(lines: readonly string[]): void {
    const begin = this.#open ? '' : HIDE_CURSOR;
    this.#write(begin + this.#back() + lines.map((line) => `${line}\n`).join(''));
    this.#open = true;
    this.#drawn = lines.length;
  }

  /** Takes the lines away and shows the cursor. They can be drawn again. */
  clear(): void {
    if (!this.#open) return;
    this.#write(this.#back() + SHOW_CURSOR);
    this.#drawn = 0;
    this.#open = false;
  }

  /**
   * Goes to where the first line begins and clears from there on. A terminal that became narrower
   * may have folded the lines; then a rest of them stays, but nothing above them is lost.
   */
  #back(): string {
    return this.#drawn === 0 ? '' : `\r\u001b[${this.#drawn}A${CLEAR_BELOW}`;
  }
}
