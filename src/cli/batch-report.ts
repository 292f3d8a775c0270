import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { BatchEvent } from '../batch/events.ts';
import { BatchRecorder, type BatchReport } from '../batch/report.ts';
import { Qcow2Error } from '../errors.ts';
import { ioError } from '../storage/file.ts';

type Print = (report: BatchReport) => string;

/** The reports that `--report` asks for. */
export class ReportFiles {
  readonly #recorder = new BatchRecorder();
  readonly #files: readonly { file: string; print: Print }[];

  private constructor(files: readonly { file: string; print: Print }[]) {
    this.#files = files;
  }

  /**
   * Undefined: no report is asked for.
   * @throws Qcow2Error INVALID_ARGUMENT: a name with another ending
   */
  static async prepare(files: readonly string[]): Promise<ReportFiles | undefined> {
    if (files.length === 0) return undefined;
    const list: { file: string; print: Print }[] = [];
    for (const file of files) list.push({ file, print: await printerOf(file) });
    return new ReportFiles(list);
  }

  add(event: BatchEvent): void {
    this.#recorder.add(event);
  }

  /** @throws Qcow2Error IO, NOT_FOUND */
  write(): void {
    const report = this.#recorder.report();
    for (const { file, print } of this.#files) {
      try {
        mkdirSync(dirname(file), { recursive: true });
        // Whole or not at all, like everything else.
        writeFileSync(`${file}.partial`, print(report));
        renameSync(`${file}.partial`, file);
      } catch (error) {
        throw ioError(error, `Could not write report '${file}'`, file);
      }
    }
  }
}

async function printerOf(file: string): Promise<Print> {
  if (/\.json$/i.test(file)) return (report) => `${JSON.stringify(report, null, 2)}\n`;
  if (/\.html?$/i.test(file)) return (await import('../batch/report-html.ts')).htmlReport;
  const text = `report '${file}' has no known format: let its name end with .json or .html`;
  throw new Qcow2Error('INVALID_ARGUMENT', text);
}
