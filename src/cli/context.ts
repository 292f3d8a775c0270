/** What a command has of the world outside; tests bring their own. */
export interface Context {
  /** Prints to standard output. */
  write(text: string): void;
  /** Prints to standard error. */
  writeError(text: string): void;
  /** Settles when standard output can take more. */
  drained(): Promise<void>;
  /**
   * From now on a signal to stop (and a reader of our output that has gone) aborts this instead of
   * ending the process, so that the command can clean up.
   */
  interruptible(): AbortSignal;
  /** Calls back when somebody asks for progress (SIGUSR1). Returns what stops it. */
  onProgressRequest(report: () => void): () => void;
}
