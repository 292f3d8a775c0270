import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { Image } from '../../src/image/image.ts';
import { openImage } from '../../src/node/open-image.ts';
import { create } from '../../src/operations/create.ts';
import { applySnapshot, createSnapshot, deleteSnapshot } from '../../src/operations/snapshot.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { Random } from '../fuzz/random.ts';
import { findingsOf, newImage, openWritable } from '../image/writable-image.ts';
import { contents, type KindImage, makeKind, WRITE_KINDS } from '../image/write-kinds.ts';
import {
  applyToModel,
  bytesOf,
  firstDifference,
  Subject,
  type WriteStep,
} from '../image/write-model.ts';
import { run, runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

/** Sequences for each kind: QCOW2_SNAPSHOT_RUNS makes them more. */
const RUNS = Number(process.env.QCOW2_SNAPSHOT_RUNS ?? 2);
/** A few pages, so that tables are written back all the time, or plenty. */
const CACHES = [0, 32 << 20];

let root: string;
let folders = 0;

beforeAll(() => {
  root = makeTempDir('snapshot');
});
afterAll(() => removeTempDir(root));

function folder(): string {
  const path = join(root, `${folders++}`);
  mkdirSync(path);
  return path;
}

/** An image and what its disk and each of its snapshots hold. */
class Model {
  readonly subject: Subject;
  readonly snapshots: Map<string, Uint8Array>;
  readonly #image: KindImage;
  readonly #random: Random;
  disk: Uint8Array;
  taken = 0;

  constructor(image: KindImage, run: number) {
    this.#image = image;
    this.subject = new Subject(image, CACHES[run % CACHES.length]!);
    this.snapshots = new Map(image.snapshots);
    this.disk = image.disk.slice();
    this.#random = new Random(run, 0x5a9);
  }

  async work(): Promise<void> {
    let image = await this.subject.open(true);
    for (let i = 0; i < 12; i++) {
      for (let n = this.#random.below(4); n > 0; n--) await this.#write(image);
      await this.#snapshot(image);
      await expectDisk(image, this.disk);
      if (!this.#random.oneIn(3)) continue;
      await image.close();
      expect(await this.subject.findings()).toEqual([]);
      image = await this.subject.open(true);
    }
    await image.close();
  }

  async #write(image: Image): Promise<void> {
    const { size, clusterSize } = this.#image.kind;
    const at = Math.min(size - 1, this.#random.below(Math.ceil(size / 512)) * 512);
    const most = this.#random.pick([5, 512, clusterSize, clusterSize * 3]);
    const length = Math.min(size - at, 1 + this.#random.below(most));
    const fill = 1 + this.#random.below(255);
    const step = this.#random.pick<WriteStep>([
      { do: 'write', at, length, fill },
      { do: 'zero', at, length, unmap: fill % 2 === 0 },
      { do: 'discard', at: 0, length: at },
    ]);
    applyToModel(this.disk, step, this.#image.kind);
    if (step.do === 'write') await image.write(at, bytesOf(step));
    else if (step.do === 'zero') await image.writeZeroes(at, length, { unmap: step.unmap });
    else await image.discard(0, at);
  }

  async #snapshot(image: Image): Promise<void> {
    const names = [...this.snapshots.keys()];
    const verb = names.length === 0 ? 'create' : this.#random.pick(['create', 'apply', 'delete']);
    const name = verb === 'create' ? `taken ${this.taken++}` : this.#random.pick(names);
    try {
      if (verb === 'create') {
        await createSnapshot(image, name);
        this.snapshots.set(name, this.disk.slice());
      } else if (verb === 'apply') {
        await applySnapshot(image, name);
        this.disk = this.snapshots.get(name)!.slice();
      } else {
        await deleteSnapshot(image, { name });
        this.snapshots.delete(name);
      }
    } catch (error) {
      if (!isQcow2Error(error) || !this.#mayRefuse(verb, error.code)) throw error;
    }
  }

  /** Narrow counters have no room for many snapshots, and bitmaps stand in the way. */
  #mayRefuse(verb: string, code: string): boolean {
    const { name } = this.#image.kind;
    if (verb === 'delete') return false;
    return (
      (code === 'TOO_LARGE' && /^[124]-bit/.test(name)) ||
      (code === 'REFUSED' && verb === 'apply' && name.startsWith('bitmaps'))
    );
  }

  async expectAll(): Promise<void> {
    expect(await this.subject.findings()).toEqual([]);
    expect(firstDifference(await this.subject.contents(), this.disk)).toBe(-1);
    for (const [name, disk] of this.snapshots)
      expect(firstDifference(await this.subject.contents(name), disk), name).toBe(-1);
  }

  /** The same by qemu-img, which goes on: it applies every snapshot and deletes them. */
  async expectAllWithQemu(): Promise<void> {
    const path = folder();
    for (const [name, storage] of this.subject.files)
      writeFileSync(join(path, name), storage.bytes);
    const check = () => runOk('qemu-img', ['check', '-q', '-f', 'qcow2', 'image.qcow2'], path);
    await check();
    for (const [name, disk] of this.snapshots) {
      expect(firstDifference(await contents(path, ['-l', name]), disk)).toBe(-1);
      const applied = await run('qemu-img', ['snapshot', '-a', name, 'image.qcow2'], path);
      if (applied.status !== 0) expect(applied.stderr).toMatch(/active dirty|Invalid argument/);
      else expect(firstDifference(await contents(path, []), disk)).toBe(-1);
      const isLeft = applied.status !== 0 && applied.stderr.includes('Invalid argument');
      if (isLeft) break;
      await runOk('qemu-img', ['snapshot', '-d', name, 'image.qcow2'], path);
      await check();
    }
    removeTempDir(path);
  }
}

async function expectDisk(image: Image, model: Uint8Array): Promise<void> {
  const read = new Uint8Array(image.virtualSize);
  await image.read(0, read);
  expect(firstDifference(read, model)).toBe(-1);
}

describe('snapshots of images of every kind, with writes between', () => {
  for (const kind of WRITE_KINDS.filter(({ name }) => !name.includes('data file'))) {
    it(kind.name, async () => {
      const path = folder();
      const image = await makeKind(kind, path);
      removeTempDir(path);
      for (let run = 0; run < RUNS; run++) {
        const model = new Model(image, run);
        await model.work();
        await model.expectAll();
        if (run % 2 === 0) await model.expectAllWithQemu();
      }
    });
  }
});

const MIB = 1 << 20;
const DATA = new Uint8Array(65536).fill(7);

describe('a snapshot that cannot be taken changes nothing', () => {
  it('counters of one bit', async () => {
    const storage = await newImage({ size: MIB, refcountBits: 1 });
    const image = await openWritable(storage);
    // Nothing is stored yet, and nothing shared.
    await createSnapshot(image, 'empty');
    await image.write(0, DATA);
    await expect(createSnapshot(image, 'full')).rejects.toMatchObject({
      code: 'TOO_LARGE',
      message: expect.stringMatching(/cannot be raised by 1; 1 bits hold no more/),
    });
    await image.write(65536, DATA);
    await expect(applySnapshot(image, 'empty')).resolves.toMatchObject({ name: 'empty' });
    await expectDisk(image, new Uint8Array(MIB));
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
  });

  it('images with a data file, raw images, images opened to be read', async () => {
    const data = new MemoryStorage();
    const storage = await newImage({ size: MIB });
    const raw = await Image.open(DATA.slice(), { format: 'raw', writable: true });
    await expect(createSnapshot(raw, 'x')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await raw.close();
    const read = await Image.open(storage);
    await expect(createSnapshot(read, 'x')).rejects.toMatchObject({ code: 'READ_ONLY' });
    await read.close();
    const outside = new MemoryStorage(new Uint8Array(0), 'image');
    const target = { storage: outside, dataStorage: data };
    await create(target, { format: 'qcow2', size: MIB, dataFile: 'data' });
    const image = await openWritable(outside, { dataFile: data });
    for (const call of [
      createSnapshot(image, 'x'),
      applySnapshot(image, 'x'),
      deleteSnapshot(image, 'x'),
    ])
      await expect(call).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await image.close();
  });

  it('names that are too long, dates that cannot be stored', async () => {
    const storage = await newImage({ size: MIB });
    const before = storage.bytes.slice();
    const image = await openWritable(storage);
    for (const [name, date] of [
      ['ü'.repeat(128), new Date()],
      ['a\0b', new Date()],
      ['old', new Date(-1000)],
      ['never', new Date(Number.NaN)],
    ] as const)
      await expect(createSnapshot(image, name, { date })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    for (const call of [applySnapshot(image, 'none'), deleteSnapshot(image, { name: 'none' })])
      await expect(call).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await image.close();
    expect(Buffer.compare(storage.bytes, before)).toBe(0);
  });
});

describe('ids, names and dates', () => {
  it('are the next number, what was given, and to the millisecond', async () => {
    const storage = await newImage({ size: MIB });
    const image = await openWritable(storage);
    const date = new Date(1_700_000_000_123);
    expect(await createSnapshot(image, 'a', { date })).toEqual({
      id: '1',
      name: 'a',
      vmStateSize: 0,
      dateSec: 1_700_000_000,
      dateNsec: 123_000_000,
      vmClockSec: 0,
      vmClockNsec: 0,
      icount: 0,
    });
    await createSnapshot(image, 'a');
    await createSnapshot(image, '1');
    // An id is looked for before a name, and the first of several is meant.
    expect(await applySnapshot(image, '1')).toMatchObject({ id: '1' });
    expect(await deleteSnapshot(image, { name: 'a' })).toMatchObject({ id: '1' });
    expect(await deleteSnapshot(image, { name: '1' })).toMatchObject({ id: '3' });
    expect(await createSnapshot(image, '')).toMatchObject({ id: '3', name: '' });
    await deleteSnapshot(image, { id: '2' });
    await deleteSnapshot(image, { name: '' });
    expect(await image.snapshots()).toEqual([]);
    expect(image.metadata?.header).toMatchObject({ nbSnapshots: 0, snapshotsOffset: 0 });
    await image.close();
    expect(await findingsOf(storage)).toEqual([]);
  });
});

describe('a disk whose size has changed since', () => {
  it.each([
    ['1M', '3G'],
    ['3G', '1M'],
    ['0', '2M'],
  ])('%s, then %s: both can be gone back to', async (before, after) => {
    const path = folder();
    const img = (...args: string[]) => runOk('qemu-img', args, path);
    const io = (command: string) => runOk('qemu-io', ['-c', command, 'image'], path);
    await img('create', '-q', '-f', 'qcow2', 'image', before);
    if (before !== '0') await io('write -P 1 0 300k');
    await img('snapshot', '-c', 'before', 'image');
    await img('resize', '-q', '--shrink', 'image', after);
    if (after !== '0') await io('write -P 2 100k 300k');
    await img('snapshot', '-c', 'after', 'image');
    const opened = await openImage(join(path, 'image'), { writable: true });
    const sizes: Record<string, number> = {
      '0': 0,
      '1M': MIB,
      '2M': 2 * MIB,
      '3G': 3 * 1024 * MIB,
    };
    for (const [name, size] of [
      ['before', sizes[before]!],
      ['after', sizes[after]!],
      ['before', sizes[before]!],
    ] as const) {
      await applySnapshot(opened, name);
      expect(opened.virtualSize).toBe(size);
      if (size === 0) continue;
      const read = new Uint8Array(200);
      await opened.read(150 << 10, read);
      expect(read).toEqual(new Uint8Array(200).fill(name === 'before' ? 1 : 2));
      await opened.write(size - 512, DATA.subarray(0, 512));
      await opened.read(size - 200, read);
      expect(read).toEqual(DATA.subarray(0, 200));
    }
    await opened.close();
    await img('check', '-q', 'image');
    await img('snapshot', '-a', 'after', 'image');
    await img('check', '-q', 'image');
    await img('snapshot', '-d', 'before', 'image');
    await img('check', '-q', 'image');
  });
});
