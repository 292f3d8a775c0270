import type { CompareJob } from '../operations/compare-plan.ts';
import type { InputFiles } from './messages.ts';

/** The two images as every thread opens them for itself. */
export type CompareFiles = InputFiles;

/** To a comparing thread. */
export interface CompareRequest {
  sequence: number;
  job: CompareJob;
}

/** From a comparing thread. Errors are sent as data, since classes do not cross. */
export type CompareReply = { sequence: number } & (
  | { offset: number }
  | { error: { code: string; message: string; details: object; stack?: string | undefined } }
);
