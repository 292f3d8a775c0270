/** What a document of YAML holds. */
export type Yaml = string | number | boolean | Yaml[] | { [key: string]: Yaml };

interface Line {
  /** Number in the file, from 1. */
  number: number;
  indent: number;
  text: string;
}

/**
 * Reads the part of YAML that our examples are written in: maps and lists in blocks, lists of plain
 * values in brackets, plain and double-quoted values, comments. All else is an error.
 */
export function parseYaml(text: string): Yaml[] {
  return text.split(/^---$/m).map((document) => {
    const lines = document.split('\n').flatMap(lineOf);
    const reader = new Reader(lines);
    const value = reader.block(0);
    if (reader.line !== undefined) throw bad(reader.line);
    return value;
  });
}

function lineOf(text: string, index: number): Line[] {
  if (/^\s*(#.*)?$/.test(text)) return [];
  const number = index + 1;
  const [, spaces = '', rest = ''] = /^( *)(.*)$/.exec(text)!;
  if (/\t| #|\s$/.test(text)) throw bad({ number, indent: 0, text });
  return [{ number, indent: spaces.length, text: rest }];
}

function bad({ number, text }: Line): Error {
  return new Error(`line ${number} of the document is not understood: ${text}`);
}

class Reader {
  readonly #lines: Line[];

  constructor(lines: Line[]) {
    this.#lines = lines;
  }

  get line(): Line | undefined {
    return this.#lines[0];
  }

  /** A list or map whose lines begin at `indent`. */
  block(indent: number): Yaml {
    return this.line?.text.startsWith('- ') ? this.#list(indent) : this.#map(indent);
  }

  #list(indent: number): Yaml[] {
    const items: Yaml[] = [];
    for (let line = this.line; line?.indent === indent; line = this.line) {
      const item = /^- (\S.*)$/.exec(line.text)?.[1];
      if (item === undefined) break;
      if (/^[\w.-]+:( |$)/.test(item)) {
        // The map begins behind the dash.
        this.#lines[0] = { ...line, indent: indent + 2, text: item };
        items.push(this.#map(indent + 2));
      } else {
        this.#lines.shift();
        items.push(scalar(item, line));
      }
    }
    return items;
  }

  #map(indent: number): Yaml {
    const map: { [key: string]: Yaml } = {};
    for (let line = this.line; line?.indent === indent; line = this.line) {
      const [, key, rest] = /^([\w.-]+):(?: (.+))?$/.exec(line.text) ?? [];
      if (key === undefined || Object.hasOwn(map, key)) throw bad(line);
      this.#lines.shift();
      map[key] = rest === undefined ? this.#below(indent, line) : flowOf(rest, line);
    }
    return map;
  }

  #below(indent: number, parent: Line): Yaml {
    const next = this.line;
    if (next === undefined || next.indent <= indent) throw bad(parent);
    return this.block(next.indent);
  }
}

function flowOf(text: string, line: Line): Yaml {
  const [, list] = /^\[([^[\]]*)\]$/.exec(text) ?? [];
  if (list === undefined) return scalar(text, line);
  return list.split(',').map((item) => scalar(item.trim(), line));
}

function scalar(text: string, line: Line): Yaml {
  const [, quoted] = /^"([^"\\]*)"$/.exec(text) ?? [];
  if (quoted !== undefined) return quoted;
  if (/^(true|false)$/.test(text)) return text === 'true';
  if (/^\d+$/.test(text)) return Number(text);
  // All that other readers might take for something else than a text is an error.
  const isText = /^[A-Za-z/$-][^:#"'{}[\],&*!|>%@`]*$/.test(text);
  const isOther = /^(y|n|yes|no|on|off|null|true|false|-\d.*|-\.\w+)$/i.test(text);
  if ((isText && !isOther) || /^(\d+(M|Mi|Gi)|[a-z\d/-]+:\d+)$/.test(text)) return text;
  throw bad(line);
}
