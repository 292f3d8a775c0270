import { describe, it } from 'vitest';
import { compressed } from './fixtures/compressed.ts';
import { mapping } from './fixtures/mapping.ts';
import { truncated } from './fixtures/truncated.ts';
import { runFixture } from './run-fixture.ts';

describe.each([
  ['mapping', mapping],
  ['compressed clusters', compressed],
  ['truncated files', truncated],
])('%s', (_, fixtures) => {
  it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))('%s', (_name, fixture) =>
    runFixture(fixture),
  );
});
