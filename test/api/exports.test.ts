import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ADAPTERS, type Exported, exportsOf, namedTypes, root } from './exports.ts';
import { apiPage } from './page.ts';

const everywhere = exportsOf('dist/index.d.ts');
const inNode = exportsOf('dist/node.d.ts');
const adapters = ADAPTERS.map((name) => [name, exportsOf(`dist/${name}.d.ts`)] as const);
const all = [...inNode, ...adapters.flatMap(([, exported]) => exported)];
const values = ({ kind }: Exported): boolean => kind !== 'interface' && kind !== 'type';

function list(exported: readonly Exported[]): string {
  return `${exported.map(({ kind, name }) => `${kind} ${name}`).join('\n')}\n`;
}

// Reviewed facts: a name that comes or goes is a change of the API and belongs in the change log.
test('the API of browsers is as it was', async () => {
  await expect(list(everywhere)).toMatchFileSnapshot('./index.api.txt');
});

test('the API of Node is that of browsers and more, as it was', async () => {
  const more = inNode.filter(({ name }) => !everywhere.some((other) => other.name === name));
  expect(inNode.length).toBe(everywhere.length + more.length);
  await expect(list(more)).toMatchFileSnapshot('./node.api.txt');
});

test.each(adapters)('the API of qcow2/%s is as it was', async (name, exported) => {
  await expect(list(exported)).toMatchFileSnapshot(`./${name}.api.txt`);
});

test('the built entries export these values and no others', async () => {
  for (const [entry, exported] of [['index', everywhere], ['node', inNode], ...adapters] as const) {
    const built = await import(join(root, `dist/${entry}.js`));
    const names = exported.filter(values).map(({ name }) => name);
    expect(Object.keys(built).sort(), entry).toEqual(names.sort());
  }
});

test('every export has a docstring', () => {
  expect(all.filter(({ doc }) => doc === '').map(({ name }) => name)).toEqual([]);
});

test('every function tells what it throws, and every function and class has an example', () => {
  const silent = all.filter(({ kind, doc }) => kind === 'function' && !/^@throws /m.test(doc));
  // What only asks, draws, or makes text of values, throws nothing.
  const names = ['htmlReport', 'isQcow2Error', 'isTransient', 'jobId', 'pictureSvg'];
  expect(silent.map(({ name }) => name).sort()).toEqual(names);
  const bare = all.filter((item) => values(item) && !/^@example$/m.test(item.doc));
  expect(bare.map(({ name }) => name)).toEqual([]);
});

test('every type that a declaration of the API names is exported, too', () => {
  const names = new Set(all.map(({ name }) => name));
  // Helpers that types are computed with, and the parts of a union, are reached by what they make.
  const isPart = (name: string): boolean => /^(FieldValues|BaseFields|\w+Extension)$/.test(name);
  const hidden = all.flatMap((item) =>
    namedTypes(item).filter((name) => !names.has(name) && !isPart(name)),
  );
  expect(hidden).toEqual([]);
});

// Written by the test itself, when it is run with -u.
test('the page of the API says what is exported', async () => {
  await expect(apiPage()).toMatchFileSnapshot('../../docs/api.md');
});
