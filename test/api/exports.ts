import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Something the package exports, where it is declared. */
export interface Exported {
  readonly name: string;
  readonly kind: 'class' | 'function' | 'const' | 'interface' | 'type';
  /** Declaration file, relative to the package. */
  readonly file: string;
  /** The text between the marks of its docstring, without the stars; empty if it has none. */
  readonly doc: string;
}

/** Adapters to the software of others, and what pages need: each an entry of its own, `qcow2/v86`. */
export const ADAPTERS = ['blocks', 'browser', 'v86'] as const;

/** What an entry of the package exports, as the built declarations say; sorted by name. */
export function exportsOf(
  entry: `dist/${'index' | 'node' | (typeof ADAPTERS)[number]}.d.ts`,
): Exported[] {
  const text = readFileSync(join(root, entry), 'utf8');
  const found: Exported[] = [];
  for (const [, all, names = '', from = ''] of text.matchAll(
    /^export (?:type )?(?:(\*)|\{([^}]*)\}) from '([^']+)';$/gm,
  )) {
    const file = join(dirname(entry), declarations(from));
    if (all !== undefined) found.push(...exportsOf('dist/index.d.ts'));
    else for (const name of namesIn(names)) found.push(exported(name, file));
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function namesIn(list: string): string[] {
  return list.split(',').flatMap((part) => part.trim() || []);
}

/** A class that is exported by `type` cannot be made or tested for: it is a type. */
function exported(item: string, file: string): Exported {
  const found = declaration(item.replace(/^type /, ''), file);
  return item.startsWith('type ') && found.kind === 'class' ? { ...found, kind: 'type' } : found;
}

/** Follows a re-export to the file that declares the name. */
function declaration(name: string, file: string): Exported {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern = new RegExp(
    `^export (?:declare )?(class|function|const|interface|type) ${name}\\b`,
    'm',
  );
  const match = pattern.exec(text);
  if (match) {
    const kind = match[1] as Exported['kind'];
    return { name, kind, file, doc: docstringBefore(text, match.index) };
  }
  const passedOn = new RegExp(
    `^export (?:type )?\\{[^}]*\\b${name}\\b[^}]*\\} from '([^']+)'`,
    'm',
  );
  const from = passedOn.exec(text)?.[1];
  if (from === undefined) throw new Error(`${file} does not declare '${name}'`);
  return declaration(name, join(dirname(file), declarations(from)));
}

function declarations(specifier: string): string {
  return specifier.replace(/\.js$/, '.d.ts');
}

/** The docstring that ends right before `index`. */
function docstringBefore(text: string, index: number): string {
  const before = text.slice(0, index).trimEnd();
  if (!before.endsWith('*/')) return '';
  return plainText(before.slice(before.lastIndexOf('/**')));
}

/** A docstring without its marks and stars. */
function plainText(comment: string): string {
  const lines = comment.slice(3, -2).split('\n');
  return lines
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join('\n')
    .trim();
}

/** The types of this package that a declaration names. */
export function namedTypes({ name, file }: Exported): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const start = text.search(
    new RegExp(`^export (?:declare )?(?:class|function|const|interface|type) ${name}\\b`, 'm'),
  );
  const [declaration = ''] = text.slice(start).split(/\n(?=\}|export|\/\*\*|declare)/, 1);
  const body = declaration.replace(/\/\*\*.*?\*\//gs, '');
  const imported = [...text.matchAll(/^import (?:type )?\{([^}]*)\}/gm)].flatMap(([, list = '']) =>
    namesIn(list).map((item) => item.replace(/^type /, '')),
  );
  const declared = [...text.matchAll(/^(?:export )?(?:declare )?(?:class|interface|type) (\w+)/gm)];
  return [...imported, ...declared.map(([, own = '']) => own)].filter(
    (other) => other !== name && new RegExp(`\\b${other}\\b`).test(body),
  );
}

/** An example of a docstring. */
export interface Example {
  /** Where it stands: `dist/operations/map.d.ts:31`. */
  readonly place: string;
  readonly code: string;
}

/** The `@example` parts of all docstrings of a declaration file, members included. */
export function examplesOf(file: string): Example[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/\/\*\*.*?\*\//gs)].flatMap(({ 0: comment, index }) => {
    const line = text.slice(0, index).split('\n').length;
    const [, ...parts] = plainText(comment).split(/^@example$/m);
    return parts.map((part) => ({
      place: `${file}:${line}`,
      code: `${part.split(/^@\w+/m)[0]?.trim()}\n`,
    }));
  });
}
