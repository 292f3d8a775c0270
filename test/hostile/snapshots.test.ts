import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { openImage } from '../../src/node/open-image.ts';
import { qcow2 } from '../cli/command.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { expectedOf, type Fixture, World } from './fixture.ts';
import { throughSnapshot } from './fixtures/snapshots.ts';

/** Reads the first bytes of the first snapshot. */
async function readSnapshot(file: string, length: number): Promise<Uint8Array> {
  const image = await openImage(file, { sync: true, snapshot: '1' });
  try {
    const bytes = new Uint8Array(length);
    await image.read(0, bytes);
    return bytes;
  } finally {
    await image.close();
  }
}

async function runThroughSnapshot(fixture: Fixture, world: World): Promise<void> {
  const image = fixture.make(world);
  world.put('image', image);
  const file = world.path('image');
  const { code, structure } = expectedOf(fixture);
  if (code === undefined) {
    const bytes = await readSnapshot(file, image.guest.length);
    expect(Buffer.compare(bytes, image.guest)).toBe(0);
    return;
  }
  const error = await readSnapshot(file, 4096).catch((failure: unknown) => failure);
  if (!isQcow2Error(error)) throw error;
  expect([error.code, error.details.structure]).toEqual([code, structure]);
  const target = world.path('out');
  const { status, stderr } = await qcow2('convert', '-l', '1', '-O', 'raw', file, target);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^qcow2: [^\n]*\n$/);
  expect(stderr).toContain(error.message);
  // The disk itself is as it was.
  const disk = await openImage(file, { sync: true });
  const bytes = new Uint8Array(image.guest.length);
  await disk.read(0, bytes);
  await disk.close();
  expect(Buffer.compare(bytes, image.guest)).toBe(0);
}

describe('reading through a damaged snapshot', () => {
  it.each(throughSnapshot.map((fixture) => [fixture.name, fixture] as const))(
    '%s',
    async (_name, fixture) => {
      const root = makeTempDir('snapshot');
      try {
        await runThroughSnapshot(fixture, new World(root));
      } finally {
        removeTempDir(root);
      }
    },
  );
});
