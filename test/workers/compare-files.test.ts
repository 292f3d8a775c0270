import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CompareResult } from '../../src/operations/compare.ts';
import type { CompareFilesOptions } from '../../src/workers/compare-files.ts';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

const MIB = 1 << 20;
const SIZE = 48 * MIB;
/** Threads load the built worker, so the built package is what is tested here. */
const DIST = fileURLToPath(new URL('../../dist/', import.meta.url));

let compareFiles: (options: CompareFilesOptions) => Promise<CompareResult>;
let dir: string;
let content: Uint8Array;

beforeAll(async () => {
  ({ compareFiles } = await import(/* @vite-ignore */ join(DIST, 'node.js')));
  dir = makeTempDir('compare-files');
  content = makeContent('text', SIZE);
  fs.writeFileSync(join(dir, 'text'), content);
  await runOk('qemu-img', ['convert', '-O', 'qcow2', '-c', '-m', '2', 'text', 'packed'], dir);
}, 60_000);
afterAll(() => removeTempDir(dir));

/** The source with bytes changed, as a file of its own. */
function changed(...places: number[]): string {
  const file = join(dir, `changed-${places.join('-')}`);
  const bytes = content.slice();
  for (const at of places) bytes[at]! ^= 0x40;
  fs.writeFileSync(file, bytes);
  return file;
}

/** The compressed image with one stream broken, far behind the first jobs. */
function broken(): string {
  const file = join(dir, 'broken');
  const bytes = fs.readFileSync(join(dir, 'packed'));
  bytes.fill(0xff, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 70_000);
  fs.writeFileSync(file, bytes);
  return file;
}

/** With the raw file first or second. */
function comparison(raw: string, packed: string, swap: boolean): CompareFilesOptions['inputs'] {
  const [a, b] = [{ path: raw, format: 'raw' as const }, { path: packed }];
  return swap ? [b, a] : [a, b];
}

describe('compareFiles on several threads', () => {
  it('finds images identical', async () => {
    const done: number[] = [];
    for (const threads of [1, 3, 16]) {
      const inputs = comparison(join(dir, 'text'), join(dir, 'packed'), threads === 3);
      const onProgress = (at: number): void => void done.push(at);
      expect(await compareFiles({ inputs, threads, onProgress })).toEqual({
        identical: true,
        sizesDiffer: false,
        commonBytes: SIZE,
      });
      expect(done.at(-1)).toBe(SIZE);
    }
  });

  it('tells the first difference, whichever thread finds one first', async () => {
    for (const places of [[40 * MIB], [46 * MIB, 30 * MIB + 7], [24 * MIB, 22 * MIB, 20 * MIB + 1]])
      for (const threads of [2, 8]) {
        const inputs = comparison(changed(...places), join(dir, 'packed'), threads === 8);
        const first = Math.min(...places);
        expect((await compareFiles({ inputs, threads })).difference).toEqual({
          kind: 'content',
          offset: first - (first % 512),
        });
      }
  });

  it('fails where a stream is broken, unless a difference comes first', async () => {
    const packed = broken();
    const failing = comparison(join(dir, 'text'), packed, false);
    await expect(compareFiles({ inputs: failing, threads: 3 })).rejects.toMatchObject({
      name: 'Qcow2Error',
      code: 'BAD_DATA',
    });
    const inputs = comparison(changed(19 * MIB, 47 * MIB), packed, false);
    expect((await compareFiles({ inputs, threads: 3 })).difference).toEqual({
      kind: 'content',
      offset: 19 * MIB,
    });
  });

  it('stops when asked, and when reporting progress fails', async () => {
    const inputs = comparison(join(dir, 'text'), join(dir, 'packed'), false);
    const controller = new AbortController();
    const onProgress = (at: number): void => {
      if (at > 24 * MIB) controller.abort();
    };
    const { signal } = controller;
    await expect(compareFiles({ inputs, threads: 2, onProgress, signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    const failing = compareFiles({
      inputs,
      threads: 2,
      onProgress: (at) => {
        if (at > 24 * MIB) throw new Error('nobody listens');
      },
    });
    await expect(failing).rejects.toThrow('nobody listens');
  });
});
