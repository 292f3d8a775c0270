import { describe, it } from 'vitest';
import { outside } from './fixtures/outside.ts';
import { runFixture } from './run-fixture.ts';

describe('outside files', () => {
  it.each(outside.map((fixture) => [fixture.name, fixture] as const))('%s', (_name, fixture) =>
    runFixture(fixture),
  );
});
