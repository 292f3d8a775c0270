import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ConvertFileOptions } from '../../src/workers/convert-file.ts';
import { makeContent } from '../support/data.ts';
import { firstDifference } from '../support/digest.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;
/** Threads load the built worker, so the built package is what is tested here. */
const DIST = fileURLToPath(new URL('../../dist/', import.meta.url));
const MAIN = join(DIST, 'cli/main.js');

let convertFile: (options: ConvertFileOptions) => Promise<void>;
let sources: string;
let dir: string;
const at = (name: string): string => join(dir, name);

beforeAll(async () => {
  ({ convertFile } = await import(/* @vite-ignore */ join(DIST, 'node.js')));
  sources = makeTempDir('sources');
  fs.writeFileSync(join(sources, 'text.raw'), makeContent('text', 23 * MIB + 4608));
  const input = { path: join(sources, 'text.raw'), format: 'raw' as const };
  const target = join(sources, 'text.qcow2');
  await convertFile({ inputs: [input], target, targetFormat: 'qcow2', compress: true });
  await runOk('qemu-img', ['check', '-q', target], sources);
});
afterAll(() => removeTempDir(sources));
beforeEach(() => {
  dir = makeTempDir('convert-file');
});
afterEach(() => removeTempDir(dir));

const text = (): { path: string; format: 'qcow2' } => ({
  path: join(sources, 'text.qcow2'),
  format: 'qcow2',
});

/** The source with one stream broken, in the middle of the file. */
function broken(): { path: string; format: 'qcow2' } {
  fs.copyFileSync(join(sources, 'text.qcow2'), at('broken.qcow2'));
  const file = fs.openSync(at('broken.qcow2'), 'r+');
  const { size } = fs.fstatSync(file);
  fs.writeSync(file, new Uint8Array(70_000).fill(0xff), 0, 70_000, Math.floor(size / 2));
  fs.closeSync(file);
  return { path: at('broken.qcow2'), format: 'qcow2' };
}

describe('convertFile on several threads', () => {
  it('writes the same bytes as one thread', async () => {
    const options = {
      inputs: [text()],
      targetFormat: 'qcow2' as const,
      compress: true,
      create: { clusterSize: 4096, refcountBits: 2 },
    };
    await convertFile({ ...options, target: at('out-1'), threads: 1 });
    for (const threads of [2, 3, 8, 16])
      for (const blocking of [false, true]) {
        await convertFile({ ...options, target: at('out'), threads, blocking });
        expect(firstDifference(at('out-1'), at('out'))).toBe(-1);
      }
    await runOk('qemu-img', ['check', '-q', 'out-1'], dir);
  });

  it('copies a range that begins and ends anywhere', async () => {
    const whole = fs.readFileSync(join(sources, 'text.raw'));
    const range = { offset: 70_001, length: 22 * MIB + 3 };
    const options = { inputs: [text()], target: at('out'), targetFormat: 'raw' as const, range };
    for (const threads of [1, 3]) {
      await convertFile({ ...options, threads });
      const found = fs.readFileSync(at('out'));
      expect(found.length).toBe(Math.ceil(range.length / 512) * 512);
      const wanted = whole.subarray(range.offset, range.offset + range.length);
      expect(found.subarray(0, range.length).equals(wanted)).toBe(true);
      expect(found.subarray(range.length).every((byte) => byte === 0)).toBe(true);
    }
  });

  for (const targetFormat of ['raw', 'qcow2'] as const)
    it(`ends with the error of the thread that failed, and leaves nothing (${targetFormat})`, async () => {
      const inputs = [broken()];
      for (const threads of [1, 2, 8]) {
        const failing = convertFile({ inputs, target: at('out'), targetFormat, threads });
        await expect(failing).rejects.toMatchObject({ name: 'Qcow2Error', code: 'BAD_DATA' });
        expect(fs.readdirSync(dir)).toEqual(['broken.qcow2']);
      }
    });

  it('stops when it is aborted, early or late, and keeps what had the name', async () => {
    fs.writeFileSync(at('out'), 'old');
    for (const threads of [1, 4])
      for (const chunk of [0, 1, 10]) {
        const controller = new AbortController();
        if (chunk === 0) controller.abort();
        let calls = 0;
        const aborted = convertFile({
          inputs: [text()],
          target: at('out'),
          targetFormat: 'qcow2',
          threads,
          signal: controller.signal,
          onProgress: () => {
            if (++calls === chunk) controller.abort();
          },
        });
        await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
        expect(fs.readdirSync(dir)).toEqual(['out']);
      }
    expect(fs.readFileSync(at('out'), 'latin1')).toBe('old');
  });

  it('ends with what a progress callback throws', async () => {
    for (const threads of [1, 4]) {
      const onProgress = (done: number): void => {
        if (done > 12 * MIB) throw new Error('no more');
      };
      const failing = convertFile({
        inputs: [text()],
        target: at('out'),
        targetFormat: 'raw',
        threads,
        onProgress,
      });
      await expect(failing).rejects.toThrow('no more');
    }
    expect(fs.readdirSync(dir)).toEqual([]);
  });

  it('reports progress that grows to the whole', async () => {
    const seen: number[] = [];
    const onProgress = (done: number, total: number): void => {
      seen.push(done / total);
    };
    await convertFile({
      inputs: [text()],
      target: at('out'),
      targetFormat: 'raw',
      threads: 3,
      onProgress,
    });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
    expect(firstDifference(at('out'), join(sources, 'text.raw'))).toBe(-1);
  });
});

/** Runs the command with a limit on what it may write, in KiB. */
function limited(kib: number, args: string[]): Promise<{ status: number | null; stderr: string }> {
  const script = `trap '' XFSZ; ulimit -f ${kib}; exec "$@"`;
  const child = spawn('bash', ['-c', script, 'bash', process.execPath, MAIN, ...args], {
    cwd: dir,
  });
  let stderr = '';
  child.stderr.on('data', (part) => {
    stderr += part;
  });
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, stderr })));
}

describe('a full disk', () => {
  for (const threads of ['1', '4'])
    it(`is an error, and nothing is left (-m ${threads})`, async () => {
      for (const format of ['raw', 'qcow2']) {
        const args = ['convert', '-m', threads, '-f', 'qcow2', '-O', format, text().path, 'out'];
        const { status, stderr } = await limited(10_000, args);
        expect(status).toBe(1);
        expect(stderr).toMatch(/^qcow2: Could not (write|resize) 'out' .*: File too large\n$/);
      }
      expect(fs.readdirSync(dir)).toEqual([]);
    });
});

describe('-n', () => {
  const raw = (name: string, byte: number, length = MIB): void =>
    fs.writeFileSync(at(name), new Uint8Array(length).fill(byte));
  const qemuImg = (...args: string[]) => runOk('qemu-img', args, dir);

  it('copies what the source has below it, since the target has another file below', async () => {
    raw('one.raw', 1);
    raw('two.raw', 2);
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'one.raw', '-F', 'raw', 'source');
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'two.raw', '-F', 'raw', 'target');
    const inputs = [{ path: at('source'), format: 'qcow2' as const }];
    const options = {
      inputs,
      target: at('target'),
      targetFormat: 'qcow2' as const,
      noCreate: true,
    };
    await convertFile(options);
    await qemuImg('compare', '-q', 'source', 'target');
    await convertFile({ ...options, create: { backingFile: 'one.raw', backingFormat: 'raw' } });
    await qemuImg('compare', '-q', 'source', 'target');
    await qemuImg('check', '-q', 'target');
  });

  it('leaves to the backing file what the caller says is in both', async () => {
    raw('one.raw', 1);
    for (const name of ['source', 'target'])
      await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'one.raw', '-F', 'raw', name);
    const create = { backingFile: './one.raw', backingFormat: 'raw' };
    const inputs = [{ path: at('source'), format: 'qcow2' as const }];
    await convertFile({
      inputs,
      target: at('target'),
      targetFormat: 'qcow2',
      noCreate: true,
      create,
    });
    expect(fs.statSync(at('target')).size).toBeLessThan(400_000);
    await qemuImg('compare', '-q', 'source', 'target');
  });

  it('replaces no data file outside the image’s folder', async () => {
    fs.mkdirSync(at('image'));
    fs.writeFileSync(at('precious'), new Uint8Array(MIB).fill(7));
    raw('source.raw', 1);
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', 'data_file=precious', 'image/target', '1M');
    fs.writeFileSync(at('precious'), new Uint8Array(MIB).fill(7));
    const bytes = fs.readFileSync(at('image/target'));
    const name = bytes.indexOf('precious');
    expect(bytes.readUInt32BE(name - 4)).toBe(8);
    for (const outside of ['../precious', at('precious')]) {
      const copy = Buffer.from(bytes);
      copy.writeUInt32BE(outside.length, name - 4);
      const end = copy.indexOf(bytes.subarray(name + 8, name + 16), name);
      const rest = bytes.subarray(end, 2048);
      copy.fill(0, name, 4096);
      copy.write(outside, name);
      rest.copy(copy, name + Math.ceil(outside.length / 8) * 8);
      fs.writeFileSync(at('image/target'), copy);
      const options = {
        inputs: [{ path: at('source.raw'), format: 'raw' as const }],
        target: at('image/target'),
        targetFormat: 'qcow2' as const,
        noCreate: true,
      };
      await expect(convertFile(options)).rejects.toMatchObject({ code: 'EXTERNAL_REFUSED' });
      expect(fs.readFileSync(at('precious')).every((byte) => byte === 7)).toBe(true);
      expect(fs.readdirSync(dir).sort()).toEqual(['image', 'precious', 'source.raw']);
    }
  });

  it('does not write into a file the source reads from, at any depth', async () => {
    raw('base.raw', 1);
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'middle');
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'middle', '-F', 'qcow2', 'top');
    fs.linkSync(at('base.raw'), at('other-name'));
    for (const target of ['base.raw', 'other-name']) {
      const inputs = [{ path: at('top'), format: 'qcow2' as const }];
      const options = { inputs, target: at(target), targetFormat: 'raw' as const, noCreate: true };
      await expect(convertFile(options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  });
});

describe('files that are opened', () => {
  it('are closed again when another cannot be', async () => {
    const before = fs.readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 10; i++) {
      const common = { target: at('out'), targetFormat: 'raw' as const };
      const missing = { path: at('none') };
      await expect(convertFile({ ...common, inputs: [text(), missing] })).rejects.toThrow();
      const allowExternal = [at('no-folder')];
      await expect(convertFile({ ...common, inputs: [text()], allowExternal })).rejects.toThrow();
    }
    expect(fs.readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 2);
    expect(fs.readdirSync(dir)).toEqual([]);
  });
});
