import { BATCH_VERBS } from './verbs-batch.ts';
import { CHANGING_VERBS } from './verbs-changing.ts';
import { COPYING_VERBS } from './verbs-copying.ts';

/** Every verb with its options: what parsing, help, completions and the manual page are made of. */
export const VERBS = { ...COPYING_VERBS, ...CHANGING_VERBS, ...BATCH_VERBS };

/** A verb of the command line. */
export type VerbName = keyof typeof VERBS;

/** Names of a verb's options. */
export type OptionName<V extends VerbName> = (typeof VERBS)[V]['options'][number]['name'];

/** True if `text` is a verb. */
export function isVerb(text: string): text is VerbName {
  return Object.hasOwn(VERBS, text);
}
