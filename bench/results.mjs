// What bench/results/ keeps: each row as it was last measured, with when, how often and where.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { chart, imageTable, lossList } from './report.mjs';

const folder = new URL('./results/', import.meta.url);
const latest = new URL('latest.json', folder);
const readme = new URL('./README.md', import.meta.url);

/** The groups of rows. */
export const GROUPS = ['images', 'kernels', 'browser'];

/** One line that tells machines and versions apart. */
export function machine() {
  const [cpu] = cpus();
  const { stdout } = spawnSync('qemu-img', ['--version'], { encoding: 'utf8' });
  const version = /version (\S+)/.exec(stdout)?.[1] ?? 'unknown';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const model = `${cpu?.model ?? 'unknown processor'}, ${cpus().length} cores`;
  return `${model}, ${memory}, Node ${process.version}, qemu-img ${version}`;
}

/** Puts rows in the place of those of the same name; returns all that are kept then. */
export function store(measured) {
  const before = existsSync(latest) ? JSON.parse(readFileSync(latest, 'utf8')) : {};
  const results = {};
  for (const group of GROUPS) {
    const rows = measured[group] ?? [];
    const names = rows.map(({ name }) => name);
    results[group] = [
      ...(before[group] ?? []).filter(({ name }) => !names.includes(name)),
      ...rows,
    ].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(latest, `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(new URL('images.svg', folder), chart(results.images));
  const causes = JSON.parse(readFileSync(new URL('./causes.json', import.meta.url), 'utf8'));
  let text = readFileSync(readme, 'utf8');
  text = replacePart(text, 'images', imageTable(results.images));
  text = replacePart(text, 'losses', lossList(results, causes));
  writeFileSync(readme, text);
}

/** Replaces what stands between the marks of a part. */
function replacePart(text, name, content) {
  const marks = new RegExp(`(<!-- ${name}: .*-->\\n)[\\s\\S]*?(<!-- /${name} -->)`);
  if (!marks.test(text)) throw new Error(`bench/README.md has no marks for '${name}'`);
  return text.replace(marks, (_, start, end) => `${start}\n${content}\n\n${end}`);
}
