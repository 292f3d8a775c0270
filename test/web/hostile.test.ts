import { describe, expect, test } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { diskPicture } from '../../src/operations/disk-picture.ts';
import { info } from '../../src/operations/info.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { filePicture } from '../../web/model/file-picture.ts';
import { placedCheck } from '../../web/model/findings.ts';
import { extensionRows, featureRows, headerRows } from '../../web/model/header-rows.ts';
import { inspect } from '../../web/model/inspection.ts';
import { openFiles } from '../../web/model/open-files.ts';
import { readPartitions } from '../../web/model/partitions.ts';
import { gatherStatistics } from '../../web/model/statistics.ts';
import { type Fixture, World } from '../hostile/fixture.ts';
import { compressed } from '../hostile/fixtures/compressed.ts';
import { extensions } from '../hostile/fixtures/extensions.ts';
import { header } from '../hostile/fixtures/header.ts';
import { mapping } from '../hostile/fixtures/mapping.ts';
import { outside } from '../hostile/fixtures/outside.ts';
import { throughSnapshot } from '../hostile/fixtures/snapshots.ts';
import { luks, tables } from '../hostile/fixtures/tables.ts';
import { truncated } from '../hostile/fixtures/truncated.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

/** Most milliseconds all views of one image may take. */
const TIME_LIMIT = 3000;

/** Everything the page shows of an image; what is wrong with it has to be an error in one line. */
async function lookAt(storage: Storage): Promise<void> {
  const opened = await attempt(() => openFiles([{ storage }]));
  if (opened === undefined) return;
  const { image } = opened;
  if (image.metadata !== undefined) {
    headerRows(image.metadata.header);
    featureRows(image.metadata);
    extensionRows(image.metadata.extensions);
  }
  await attempt(() => info(image));
  await attempt(() => diskPicture(image, { maxCells: 65536 }));
  await attempt(() => filePicture(image));
  await attempt(() => gatherStatistics(image));
  await attempt(() => placedCheck(image, () => undefined));
  if (image.virtualSize > 0) await attempt(() => inspect(image, 0));
  const read = async (offset: number, length: number) => {
    const part = new Uint8Array(Math.max(0, Math.min(length, image.virtualSize - offset)));
    if (part.length > 0) await image.read(offset, part);
    return part;
  };
  await attempt(() => readPartitions(read, image.virtualSize));
  await image.close();
}

async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    expect(error.message).not.toContain('\n');
    return undefined;
  }
}

const LISTS: readonly (readonly [string, readonly Fixture[]])[] = [
  ['header', header],
  ['extensions', extensions],
  ['tables', tables],
  ['LUKS', luks],
  ['mapping', mapping],
  ['compressed', compressed],
  ['outside', outside],
  ['snapshots', throughSnapshot],
  ['truncated', truncated],
];

async function inTime(name: string, storage: Storage): Promise<void> {
  const started = performance.now();
  await lookAt(storage).catch((error) => {
    throw new Error(`${name}: ${error}`, { cause: error });
  });
  expect(performance.now() - started, name).toBeLessThan(TIME_LIMIT);
}

describe('no hostile image breaks a view', () => {
  test.each(LISTS)('%s', async (_, fixtures) => {
    for (const fixture of fixtures) {
      const world = makeTempDir('web-hostile');
      const { bytes } = fixture.make(new World(world));
      removeTempDir(world);
      await inTime(fixture.name, Object.assign(new MemoryStorage(bytes), { name: 'image.qcow2' }));
    }
  });
});
