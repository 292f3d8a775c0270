/** What a JSON text can hold here. A bigint is printed as a number, `undefined` is left out. */
export type JsonValue =
  | string
  | number
  | bigint
  | boolean
  | undefined
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** Half of a character: `String.prototype.toWellFormed` is not in Node 20's type library. */
const LONE_SURROGATE = /\p{Surrogate}/gu;

/** A JSON string in pure ASCII, as qemu-img writes it: upper-case `\uXXXX` for all else. */
function quote(text: string): string {
  const body = text
    .replace(LONE_SURROGATE, '\ufffd')
    .replace(/[^\x20-\x7e]|["\\]/g, (character) => {
      const code = character.charCodeAt(0).toString(16).toUpperCase();
      return ESCAPES[character] ?? `\\u${code.padStart(4, '0')}`;
    });
  return `"${body}"`;
}

/** A value as qemu-img indents JSON: four spaces, every element on a line, also of an empty list. */
export function jsonText(value: JsonValue, indent = ''): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value !== 'object') return String(value);
  const inner = `${indent}    `;
  if (isList(value)) {
    const items = value.map((item) => inner + jsonText(item, inner));
    return `[\n${items.join(',\n')}${items.length > 0 ? '\n' : ''}${indent}]`;
  }
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(([key, member]) => `${inner}${quote(key)}: ${jsonText(member, inner)}`);
  return `{\n${members.join(',\n')}${members.length > 0 ? '\n' : ''}${indent}}`;
}

/** `Array.isArray` does not narrow readonly arrays. */
export function isList(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}
