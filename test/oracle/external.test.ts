import {
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeContent } from '../support/data.ts';
import { sha256File } from '../support/digest.ts';
import { runOk } from '../support/run.ts';
import { patch } from './recipes/recipe.ts';
import { qemuImg } from './tools.ts';
import { failInOneLine, succeed, Workshop } from './workshop.ts';

const TIME = { timeout: 60_000 };
const LENGTH = 200_192;
const DATA_FILE = 0x44415441;

const workshop = new Workshop('oracle-external');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** Paths of one case: the image's folder with `sub` in it, and a neighbour folder with a secret. */
class Case {
  readonly top: string;
  readonly images: string;
  readonly outside: string;
  readonly secret: string;

  constructor(top: string) {
    this.top = top;
    this.images = join(top, 'images');
    this.outside = join(top, 'outside');
    this.secret = join(this.outside, 'secret.raw');
    for (const dir of [this.images, join(this.images, 'sub'), this.outside]) mkdirSync(dir);
    const content = makeContent('text', LENGTH, 71);
    for (const path of [this.secret, join(this.images, 'base.raw')]) writeFileSync(path, content);
    writeFileSync(join(this.images, 'sub', 'base.raw'), content);
  }

  /** Makes `images/NAME` whose header names a backing file that nobody looked at. */
  async overlay(backing: string, format = 'raw', name = 'disk.qcow2'): Promise<void> {
    const record = ['-u', '-b', backing, '-F', format];
    await qemuImg(['create', '-q', '-f', 'qcow2', ...record, name, `${LENGTH}`], this.images);
  }

  /** Makes `images/disk.qcow2` whose guest data are in a file of this name, of 8 letters or more. */
  async withDataFile(name: string): Promise<void> {
    const placeholder = 'd'.repeat(Buffer.byteLength(name));
    const options = `data_file=${placeholder},preallocation=metadata`;
    await qemuImg(
      ['create', '-q', '-f', 'qcow2', '-o', options, 'disk.qcow2', `${LENGTH}`],
      this.images,
    );
    unlinkSync(join(this.images, placeholder));
    await patch((bytes) => {
      const type = Buffer.alloc(8);
      type.writeUInt32BE(DATA_FILE);
      type.writeUInt32BE(placeholder.length, 4);
      const at = bytes.indexOf(type);
      if (at < 0) throw new Error('no data file extension');
      bytes.write(name, at + 8);
    })(this.images);
  }

  /** All commands that read the disk refuse; returns their words. `info` opens nothing and works. */
  async refuses(...flags: readonly string[]): Promise<string> {
    await succeed(['info', 'disk.qcow2'], this.images);
    return this.refusesDisk(...flags);
  }

  /** {@link refuses} for images whose header alone may be reason enough to refuse `info` too. */
  async refusesDisk(...flags: readonly string[]): Promise<string> {
    const map = ['map', '--output=json', ...flags, 'disk.qcow2'];
    const convert = ['convert', ...flags, '-O', 'raw', 'disk.qcow2', 'out.raw'];
    const words = [await failInOneLine(map, this.images)];
    words.push(await failInOneLine(convert, this.images));
    expect(() => readFileSync(join(this.images, 'out.raw'))).toThrow('ENOENT');
    return words.join('');
  }

  /** The disk reads as the secret's content, which is also that of the other base files. */
  async reads(...flags: readonly string[]): Promise<void> {
    await succeed(['convert', ...flags, '-O', 'raw', 'disk.qcow2', 'out.raw'], this.images);
    expect(sha256File(join(this.images, 'out.raw'))).toBe(sha256File(this.secret));
    unlinkSync(join(this.images, 'out.raw'));
  }

  /** Refuses with the same words when the file is there and when it is not. */
  async refusesBlindly(...flags: readonly string[]): Promise<void> {
    const there = await this.refuses(...flags);
    unlinkSync(this.secret);
    expect(await this.refuses(...flags)).toBe(there);
  }
}

function check(name: string, work: (place: Case) => Promise<void>): void {
  test(name, TIME, () => workshop.inFolder((dir) => work(new Case(dir))));
}

describe.concurrent('backing files outside the image’s folder', () => {
  check('a relative name', async (place) => {
    await place.overlay('../outside/secret.raw');
    await place.refusesBlindly();
  });

  check('an absolute name', async (place) => {
    await place.overlay(place.secret);
    await place.refusesBlindly();
  });

  check('a qcow2 file', async (place) => {
    await qemuImg(
      ['convert', '-f', 'raw', '-O', 'qcow2', place.secret, 'images/inside.qcow2'],
      place.top,
    );
    linkSync(join(place.images, 'inside.qcow2'), join(place.outside, 'far.qcow2'));
    await place.overlay('../outside/far.qcow2', 'qcow2');
    await place.refuses();
    await place.reads('--allow-external', place.outside);
  });

  check('a name that leads out through a folder inside', async (place) => {
    await place.overlay('sub/../../outside/secret.raw');
    await place.refusesBlindly();
  });

  check('a symbolic link to a file', async (place) => {
    symlinkSync(place.secret, join(place.images, 'link.raw'));
    await place.overlay('link.raw');
    await place.refusesBlindly();
  });

  check('a symbolic link to a folder', async (place) => {
    symlinkSync(place.outside, join(place.images, 'link'));
    await place.overlay('link/secret.raw');
    await place.refusesBlindly();
  });

  check('at the second level of a chain', async (place) => {
    await place.overlay('../outside/secret.raw', 'raw', 'middle.qcow2');
    await place.overlay('middle.qcow2', 'qcow2');
    await place.refusesBlindly();
  });

  check('found by probing a file whose format is not recorded', async (place) => {
    await place.overlay('base.raw', 'raw', 'middle.qcow2');
    await place.overlay('middle.qcow2', 'qcow2');
    await patch((bytes) => {
      const at = bytes.readUInt32BE(100);
      bytes.fill(0, at, at + 8);
    })(place.images);
    await place.refuses();
  });
});

describe.concurrent('data files outside the image’s folder', () => {
  check('a relative name', async (place) => {
    await place.withDataFile('../outside/secret.raw');
    await place.refusesBlindly();
  });

  check('an absolute name', async (place) => {
    await place.withDataFile(place.secret);
    await place.refusesBlindly();
  });

  check('a symbolic link', async (place) => {
    symlinkSync(place.secret, join(place.images, 'link.data'));
    await place.withDataFile('link.data');
    await place.refusesBlindly();
  });

  check('is the image itself', async (place) => {
    await place.withDataFile('disk.qcow2');
    await place.refuses('--allow-external', 'any');
  });

  check('is a pipe', async (place) => {
    await runOk('mkfifo', ['pipe.data'], place.images);
    await place.withDataFile('pipe.data');
    await place.refuses('--allow-external', 'any');
  });
});

describe.concurrent('what --allow-external opens', () => {
  check('the folder named, for backing files', async (place) => {
    await place.overlay('../outside/secret.raw');
    await place.reads('--allow-external', place.outside);
    await place.reads('--allow-external', '../outside');
    await place.reads('--allow-external', 'any');
  });

  check('the folder named, for data files', async (place) => {
    await place.withDataFile(place.secret);
    await place.reads('--allow-external', place.outside);
  });

  check('a link into the folder named', async (place) => {
    symlinkSync(place.secret, join(place.images, 'link.raw'));
    await place.overlay('link.raw');
    await place.reads('--allow-external', place.outside);
  });

  check('no other folder', async (place) => {
    mkdirSync(join(place.top, 'other'));
    await place.overlay('../outside/secret.raw');
    await place.refusesBlindly('--allow-external', join(place.top, 'other'));
  });

  check('no folder whose name only begins alike', async (place) => {
    mkdirSync(join(place.top, 'out'));
    await place.overlay('../outside/secret.raw');
    await place.refusesBlindly('--allow-external', join(place.top, 'out'));
  });
});

describe.concurrent('names that are never opened', () => {
  const names = [
    'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}',
    'nbd:127.0.0.1:9',
    'nbd://127.0.0.1:9/disk',
    'nbd+unix:///disk?socket=socket',
    'http://127.0.0.1:9/disk',
    'https://127.0.0.1:9/disk',
    'ssh://127.0.0.1:9/disk',
    'file:base.raw',
    'fat:sub',
    '/dev/zero',
    '.',
    'sub',
  ];
  for (const name of names) {
    check(`backing file ${name}`, async (place) => {
      await place.overlay(name);
      await place.refuses();
      await place.refuses('--allow-external', 'any');
    });
  }

  check('a pipe', async (place) => {
    await runOk('mkfifo', ['pipe'], place.images);
    await place.overlay('pipe');
    await place.refuses();
    await place.refuses('--allow-external', 'any');
  });

  check('a link to a device', async (place) => {
    symlinkSync('/dev/zero', join(place.images, 'link.raw'));
    await place.overlay('link.raw');
    await place.refuses();
    await place.refuses('--allow-external', 'any');
  });

  check('a name with a NUL in it', async (place) => {
    await place.overlay('base.raw-and-more');
    await patch((bytes) => {
      const at = bytes.indexOf('base.raw-and-more');
      bytes[at + 'base.raw'.length] = 0;
    })(place.images);
    await place.refusesDisk();
  });

  check('the image itself', async (place) => {
    await place.overlay('disk.qcow2', 'qcow2', 'new.qcow2');
    renameSync(join(place.images, 'new.qcow2'), join(place.images, 'disk.qcow2'));
    await place.refuses('--allow-external', 'any');
  });

  check('the image itself as raw', async (place) => {
    await place.overlay('disk.qcow2', 'raw', 'new.qcow2');
    renameSync(join(place.images, 'new.qcow2'), join(place.images, 'disk.qcow2'));
    await place.refuses('--allow-external', 'any');
  });

  check('the image itself by another name', async (place) => {
    await place.overlay('same.qcow2', 'qcow2');
    linkSync(join(place.images, 'disk.qcow2'), join(place.images, 'same.qcow2'));
    await place.refuses('--allow-external', 'any');
  });

  check('a ring of three images', async (place) => {
    await place.overlay('one.qcow2', 'qcow2');
    await place.overlay('two.qcow2', 'qcow2', 'one.qcow2');
    await place.overlay('disk.qcow2', 'qcow2', 'two.qcow2');
    await place.refuses('--allow-external', 'any');
  });
});

describe.concurrent('what needs no leave', () => {
  check(
    'a file in the image’s folder, one in a folder below, and a link between',
    async (place) => {
      symlinkSync('sub/base.raw', join(place.images, 'link.raw'));
      for (const name of [
        'base.raw',
        'sub/base.raw',
        'sub/../base.raw',
        './base.raw',
        'link.raw',
      ]) {
        await place.overlay(name);
        await place.reads();
      }
      await place.overlay(join(place.images, 'base.raw'));
      await place.reads();
    },
  );

  check('names typed on the command line', async (place) => {
    const args = ['-O', 'qcow2', '-B', '../outside/secret.raw', '-F', 'raw', '-f', 'raw'];
    await succeed(['convert', ...args, '../outside/secret.raw', 'disk.qcow2'], place.images);
    const create = ['-f', 'qcow2', '-b', '../outside/secret.raw', '-F', 'raw', 'new.qcow2'];
    await succeed(['create', '-q', ...create], place.images);
  });

  check('a relative data file, from any working directory', async (place) => {
    linkSync(join(place.images, 'base.raw'), join(place.images, 'disk.data'));
    await place.withDataFile('disk.data');
    await succeed(['convert', '-O', 'raw', 'images/disk.qcow2', 'out.raw'], place.top);
    expect(sha256File(join(place.top, 'out.raw'))).toBe(sha256File(place.secret));
  });
});
