/** Standard output when an image goes there. */
export interface ImageOutput {
  readonly isTerminal: boolean;
  /**
   * Settles when the bytes are on their way.
   * @throws Qcow2Error IO: nobody reads them, for example
   */
  write(bytes: Uint8Array): Promise<void>;
}

/** What a command has of the world outside; tests bring their own. */
export interface Context {
  /** Prints to standard output. */
  write(text: string): void;
  /** Prints to standard error. */
  writeError(text: string): void;
  /** Settles when standard output can take more. */
  drained(): Promise<void>;
  /** From now on the bytes of an image go to standard output, and nothing else does. */
  imageOutput(): ImageOutput;
  /**
   * From now on a signal to stop (and a reader of our output that has gone) aborts this instead of
   * ending the process, so that the command can clean up.
   */
  interruptible(): AbortSignal;
  /** Calls back when somebody asks for progress (SIGUSR1). Returns what stops it. */
  onProgressRequest(report: () => void): () => void;
}
