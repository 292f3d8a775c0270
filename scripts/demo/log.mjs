// Live progress of a batch: bars on a terminal, else a line per image.
import { BarLog, LineLog } from '../../build/modules/cli/batch-log.js';

/** What the logs of the command line write to. */
const context = {
  write: (text) => void process.stdout.write(text),
  writeError: (text) => void process.stderr.write(text),
  drained: async () => {},
};

/** A log for the events of one batch; to be closed when that has ended. */
export function openLog() {
  const { stderr, env } = process;
  if (!stderr.isTTY || env.TERM === 'dumb') return new LineLog(context, false);
  return new BarLog(context, {
    columns: () => stderr.columns || 80,
    rows: () => stderr.rows || 24,
    colour: !env.NO_COLOR,
    tableColour: false,
    tableColumns: () => undefined,
  });
}
