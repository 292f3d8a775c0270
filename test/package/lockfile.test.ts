import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

interface LockedPackage {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, object>;
}

const text = readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8');
const { packages } = JSON.parse(text) as { packages: Record<string, LockedPackage> };
const manifest = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as LockedPackage;

test('the lock file names no registry', () => {
  expect(text).not.toMatch(/"resolved"|registry/);
});

test('the lock file is that of package.json', () => {
  const kinds = [
    'dependencies',
    'optionalDependencies',
    'devDependencies',
    'peerDependencies',
    'peerDependenciesMeta',
  ] as const;
  for (const kind of kinds) expect(packages['']?.[kind]).toEqual(manifest[kind]);
});

/** `npm ci` refuses a lock file that lacks one, be it for another platform. */
test('the lock file holds every package that another one needs', () => {
  const locked = new Set(
    Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, '')),
  );
  const missing = Object.values(packages).flatMap((entry) =>
    Object.keys({ ...entry.dependencies, ...entry.optionalDependencies }).filter(
      (name) => !locked.has(name),
    ),
  );
  expect(missing).toEqual([]);
});
