import { textWidth } from './text-width.ts';

/** The terminal the lines are drawn on. */
export interface Terminal {
  write(text: string): void;
  /** Width now, in columns. */
  columns(): number;
}

const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const CLEAR_BELOW = '\u001b[J';

/** Lines at the bottom of a terminal that are redrawn in place. The cursor is hidden meanwhile. */
export class LiveLines {
  readonly #terminal: Terminal;
  /** Columns each drawn line takes. */
  #drawn: readonly number[] = [];
  #open = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /**
   * Shows these lines instead of the last ones.
   * @param lines each narrower than the terminal; colours are allowed
   */
  draw(lines: readonly string[]): void {
    const begin = this.#open ? '' : HIDE_CURSOR;
    this.#open = true;
    this.#terminal.write(`${begin}${this.#back()}${lines.map((line) => `${line}\n`).join('')}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours take no columns
    this.#drawn = lines.map((line) => textWidth(line.replace(/\u001b\[\d+m/g, '')));
  }

  /** Takes the lines away and shows the cursor. They can be drawn again. */
  clear(): void {
    if (!this.#open) return;
    this.#terminal.write(this.#back() + SHOW_CURSOR);
    this.#drawn = [];
    this.#open = false;
  }

  /** Goes to where the first line begins and clears from there on. */
  #back(): string {
    // A terminal that became narrower has folded the lines.
    const columns = Math.max(1, this.#terminal.columns());
    const rows = this.#drawn.reduce(
      (sum, width) => sum + Math.max(1, Math.ceil(width / columns)),
      0,
    );
    return rows === 0 ? '' : `\r\u001b[${rows}A${CLEAR_BELOW}`;
  }
}
