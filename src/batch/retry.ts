import { isQcow2Error } from '../errors.ts';

/** System errors that may pass by themselves: of networks, of what lies on one, of a busy system. */
const TRANSIENT = new Set([
  'EIO',
  'EAGAIN',
  'EBUSY',
  'EINTR',
  'ETIMEDOUT',
  'ESTALE',
  'EREMOTEIO',
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EAI_AGAIN',
]);

const MAX_DELAY_MILLISECONDS = 30_000;

/**
 * Whether trying again may help: an `IO` error that names no system error (a storage gave up on its
 * server) or one that may pass, not a full disk or a missing permission.
 * @example
 * import { isTransient, runJob } from 'qcow2';
 *
 * try {
 *   const inputs = [{ path: 'disk.qcow2' }];
 *   await runJob({ inputs, target: 'disk.raw', targetFormat: 'raw' });
 * } catch (error) {
 *   if (!isTransient(error)) throw error; // otherwise: later, perhaps
 * }
 */
export function isTransient(error: unknown): boolean {
  if (!isQcow2Error(error) || error.code !== 'IO') return false;
  return error.details.errno === undefined || TRANSIENT.has(error.details.errno);
}

/**
 * Milliseconds to wait before the next attempt: twice as long each time, up to half a minute. Up to a
 * quarter is left to chance, lest many jobs come back to a server at once.
 * @param attempt the one that failed, from 1
 * @param first milliseconds behind the first attempt
 */
export function retryDelay(attempt: number, first: number, chance = Math.random()): number {
  return Math.min(MAX_DELAY_MILLISECONDS, first * 2 ** (attempt - 1)) * (0.75 + chance / 4);
}
