#!/usr/bin/env node
import { constants } from 'node:os';
import type { Context } from './context.ts';
import { imageOutput, outputError } from './image-output.ts';
import { errorLine, runCommandLine } from './run.ts';

/** Signals that ask a command to stop. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What a shell reports for a program that wrote into a closed pipe. */
const EXIT_BROKEN_PIPE = 128 + constants.signals.SIGPIPE;

let stopped: NodeJS.Signals | undefined;
let interrupt: AbortController | undefined;
/** Set once standard output has failed; it decides the exit status. */
let outputStatus: number | undefined;
/** The command writes an image to standard output, and reports itself if that fails. */
let holdsImage = false;

function stop(signal: NodeJS.Signals): void {
  stopped = signal;
  interrupt?.abort();
}

const context: Context = {
  write(text) {
    if (outputStatus === undefined) process.stdout.write(text);
  },
  writeError(text) {
    process.stderr.write(text);
  },
  async drained() {
    if (!process.stdout.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      process.stdout.once('drain', resolve);
      process.stdout.once('close', resolve);
    });
  },
  imageOutput() {
    holdsImage = true;
    return imageOutput();
  },
  interruptible() {
    if (interrupt === undefined) {
      interrupt = new AbortController();
      // Once: a second signal ends the process at once.
      for (const signal of STOP_SIGNALS) process.once(signal, stop);
    }
    return interrupt.signal;
  },
  onProgressRequest(report) {
    process.on('SIGUSR1', report);
    return () => process.off('SIGUSR1', report);
  },
};

// Begins before the streams are made: what it waits for comes sooner.
const finished = runCommandLine(process.argv.slice(2), context);

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (outputStatus !== undefined || holdsImage) return;
  outputStatus = error.code === 'EPIPE' ? EXIT_BROKEN_PIPE : 1;
  process.exitCode = outputStatus;
  if (error.code !== 'EPIPE') process.stderr.write(errorLine(outputError(error)));
  if (interrupt === undefined) process.exit();
  interrupt.abort();
});
// Nobody is left to tell.
process.stderr.on('error', () => {});

process.on('uncaughtException', (error) => {
  process.stderr.write(errorLine(error));
  process.exit(1);
});

void finished.then((status) => {
  process.exitCode = outputStatus ?? status;
  // A command that was stopped ends the way the signal would have ended it.
  if (stopped !== undefined && status !== 0) process.kill(process.pid, stopped);
});
