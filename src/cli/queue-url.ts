import { Qcow2Error } from '../errors.ts';
import { type QueueAddress, queueAddress } from '../queue/connection.ts';

/** The variable that holds the URL, since every user of a machine may read the command line. */
const VARIABLE = 'QCOW2_QUEUE';

/**
 * Where `--queue` says the queue is.
 * @param given undefined, or `env`: the environment says it
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function queueOf(given: string | undefined): QueueAddress {
  const text = given === undefined || given === 'env' ? process.env[VARIABLE] : given;
  if (text) return queueAddress(text);
  const problem = given === undefined ? '--queue URL is needed' : `--queue env needs its URL`;
  throw new Qcow2Error('INVALID_ARGUMENT', `${problem}, or put it into the variable ${VARIABLE}`);
}
