import * as fs from 'node:fs';
import * as path from 'node:path';
import { Qcow2Error } from '../errors.ts';
import { isHttpUrl } from '../storage/http-url.ts';

/** What makes a name a pattern. */
const MAGIC = /[*?[]/;

/**
 * The files that patterns of a shell name, for callers whose shell has not looked: `*`, `?` and `[a-z]`
 * within a name, `**` for any folders. Hidden files are matched by patterns that begin with a dot only. A
 * name that is there, or is no pattern, or a URL, stays as it is. Sorted, each file once.
 * @throws Qcow2Error NOT_FOUND: a pattern that matches nothing; INVALID_ARGUMENT: it is none
 */
export function expandPatterns(names: readonly string[]): string[] {
  const found = new Set<string>();
  for (const name of names) {
    if (isHttpUrl(name) || !MAGIC.test(name) || fs.existsSync(name)) found.add(name);
    else for (const file of filesOf(name)) found.add(file);
  }
  return [...found];
}

function filesOf(pattern: string): string[] {
  const files = [...walk(path.isAbsolute(pattern) ? '/' : '', pattern.split('/').filter(Boolean))];
  if (files.length > 0) return files.sort();
  const text = `Could not open '${pattern}': no file matches this pattern`;
  throw new Qcow2Error('NOT_FOUND', text, { file: pattern });
}

/** Files below a folder (empty: the current one) that the parts of a pattern name. */
function* walk(folder: string, parts: readonly string[]): Generator<string> {
  const [part = '*', ...rest] = parts;
  if (part === '**') yield* walk(folder, rest);
  for (const { name, isFolder, isLink } of candidates(folder, part)) {
    const at = folder + name;
    // A link to a folder above would never end.
    if (part === '**') yield* isFolder && !isLink ? walk(`${at}/`, parts) : [];
    else if (rest.length > 0) yield* isFolder ? walk(`${at}/`, rest) : [];
    else if (!isFolder) yield at;
  }
}

interface Candidate {
  name: string;
  isFolder: boolean;
  isLink: boolean;
}

/** What one part of a pattern names in a folder. */
function candidates(folder: string, part: string): Candidate[] {
  if (!MAGIC.test(part)) {
    const stat = fs.statSync(folder + part, { throwIfNoEntry: false });
    return stat ? [{ name: part, isFolder: stat.isDirectory(), isLink: false }] : [];
  }
  const expression = part === '**' ? /^[^.]/s : expressionOf(part);
  return entriesOf(folder)
    .filter(({ name }) => expression.test(name))
    .map((entry) => ({
      name: entry.name,
      isFolder: isDirectory(entry, folder + entry.name),
      isLink: entry.isSymbolicLink(),
    }));
}

function entriesOf(folder: string): fs.Dirent[] {
  try {
    return fs.readdirSync(folder === '' ? '.' : folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

function isDirectory(entry: fs.Dirent, file: string): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return fs.statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function expressionOf(part: string): RegExp {
  let source = /^[*?[]/.test(part) ? '(?!\\.)' : '';
  for (let at = 0; at < part.length; at++) {
    const [, set] = /^\[([!^]?\]?[^\]]*)\]/.exec(part.slice(at)) ?? [];
    if (set === undefined) {
      source += wildcard(part[at]!);
    } else {
      source += `[${set.replace(/^!/, '^').replace(/[[\]\\]/g, '\\$&')}]`;
      at += set.length + 1;
    }
  }
  try {
    return new RegExp(`^${source}$`, 's');
  } catch {
    throw new Qcow2Error('INVALID_ARGUMENT', `'${part}' is no pattern of file names`);
  }
}

function wildcard(character: string): string {
  if (character === '*') return '[^/]*';
  if (character === '?') return '[^/]';
  return character.replace(/[.+^${}()|[\]\\]/, '\\$&');
}
