import { describe, it } from 'vitest';
import { extensions } from './fixtures/extensions.ts';
import { header } from './fixtures/header.ts';
import { luks, tables } from './fixtures/tables.ts';
import { runFixture } from './run-fixture.ts';

describe.each([
  ['header', header],
  ['header extensions', extensions],
  ['tables', tables],
  ['LUKS headers', luks],
])('%s', (_, fixtures) => {
  it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (_name, fixture) =>
    runFixture(fixture),
  );
});
