import { Qcow2Error } from '../errors.ts';

/** One `key=value` of an option list. */
export interface KeyValue {
  readonly key: string;
  /** Absent for a bare key: a switch, or a request for help. */
  readonly value?: string;
}

/**
 * Splits an option list such as `a=b,c=d`. A comma inside a value is written twice.
 * @throws Qcow2Error INVALID_ARGUMENT for an empty list or a stray comma
 */
export function parseKeyValues(text: string): KeyValue[] {
  const result: KeyValue[] = [];
  let rest = text;
  for (;;) {
    const [, key, equals] = /^([^=,]*)(=?)/.exec(rest) as unknown as [string, string, string];
    rest = rest.slice(key.length + equals.length);
    if (equals === '') {
      if (key === '') throw invalidList(text);
      result.push({ key });
    } else {
      const raw = (/^(?:[^,]|,,)*/.exec(rest) as RegExpExecArray)[0];
      rest = rest.slice(raw.length);
      result.push({ key, value: raw.replaceAll(',,', ',') });
    }
    if (rest === '') return result;
    rest = rest.slice(1);
    if (rest === '') throw invalidList(text);
  }
}

function invalidList(text: string): Qcow2Error {
  return new Qcow2Error(
    'INVALID_ARGUMENT',
    `invalid option list '${text}': write key=value, separated by single commas`,
  );
}

const SWITCH: Readonly<Record<string, boolean>> = {
  on: true,
  yes: true,
  true: true,
  y: true,
  off: false,
  no: false,
  false: false,
  n: false,
};

/**
 * Reads `on` or `off` (and the spellings qemu-img takes for them).
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function parseSwitch(text: string, key: string): boolean {
  const value = Object.hasOwn(SWITCH, text) ? SWITCH[text] : undefined;
  if (value !== undefined) return value;
  throw new Qcow2Error('INVALID_ARGUMENT', `option '${key}' is on or off, not '${text}'`);
}
