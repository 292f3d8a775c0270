// The process that is already started: does what it is told with the library's functions.
import { check, FileStorage, map, openImage } from '../../dist/node.js';
import { peakOf } from './process.mjs';

const WORK = {
  async check(path) {
    const storage = new FileStorage(path);
    try {
      const { checkErrors, corruptions } = await check(storage);
      if (checkErrors + corruptions > 0) throw new Error(`${path} is damaged`);
    } finally {
      storage.close();
    }
  },
  async map(path) {
    const image = await openImage(path);
    try {
      let end = 0;
      for await (const { start, length } of map(image)) end = start + length;
      if (end !== image.virtualSize) throw new Error(`the map of ${path} ends at ${end}`);
    } finally {
      await image.close();
    }
  },
};

process.on('message', async ({ verb, path }) => {
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  await WORK[verb](path);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  process.send({ seconds, user: user / 1e6, system: system / 1e6, peakBytes: peakOf('self') });
});
