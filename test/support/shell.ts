import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

/** Ends what a command line prints; its status follows. */
const MARK = '\x01ended ';

/**
 * A shell that runs one command line after the other: where programs are many and short, most of the
 * time goes into starting them from a large process. From a small one it costs a fraction.
 */
export class Shell {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  #output = '';
  #waiting: { line: string; done: () => void; failed: (error: Error) => void } | undefined;

  constructor() {
    this.#process = spawn('sh', [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text));
    this.#process.on('close', () => this.#waiting?.failed(new Error('the shell has ended')));
  }

  /**
   * Runs a command line that must succeed.
   * @throws Error with what it printed
   */
  run(line: string): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting = { line, done, failed };
      this.#process.stdin.write(`( ${line} ) 2>&1 </dev/null; printf '${MARK}%s\\n' $?\n`);
    });
  }

  #read(text: string): void {
    this.#output += text;
    const end = this.#output.indexOf(MARK);
    if (end < 0 || !this.#output.endsWith('\n') || this.#waiting === undefined) return;
    const { line, done, failed } = this.#waiting;
    const status = this.#output.slice(end + MARK.length).trim();
    const printed = this.#output.slice(0, end);
    this.#output = '';
    this.#waiting = undefined;
    if (status === '0') done();
    else failed(new Error(`${line}\nended with status ${status}\n${printed}`));
  }

  [Symbol.dispose](): void {
    this.#process.stdin.end();
  }
}
