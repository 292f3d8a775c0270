import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runOk } from '../support/run.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const MIB = 2 ** 20;

test('the map of 16 TiB, clusters stored everywhere, takes less than 64 MiB', async () => {
  const script = fileURLToPath(new URL('./map-memory.mjs', import.meta.url));
  const entries = ['index', 'blocks'].map((name) => join(root, `dist/${name}.js`));
  const { stdout } = await runOk(process.execPath, ['--expose-gc', script, ...entries], root);
  const { grown, held, ...found } = JSON.parse(stdout);
  expect(found).toMatchObject({
    blockCount: 2 ** 28,
    presentCount: 2 ** 22,
    last: 99_999 * 64,
    flags: [true, false],
  });
  expect(held).toBeLessThanOrEqual(36 * MIB);
  expect(grown).toBeLessThan(64 * MIB);
}, 120_000);
