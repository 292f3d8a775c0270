import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { run } from '../support/run.ts';
import { GuestModel } from './guest-model.ts';
import { filesOf, type KillCase, killAtRandom } from './kill.ts';
import { PagedStorage } from './paged-storage.ts';
import { judge } from './verdict.ts';

const SIZE = 24 << 20;
const CONTENT = makeContent('mixed', SIZE, 3);

/** A command that makes `target`: there is no such file, or it is whole. */
function making(name: string, argv: readonly string[], content: Uint8Array): KillCase {
  const model = new GuestModel(content);
  return {
    name,
    argv,
    prepare: (folder) => fs.writeFileSync(path.join(folder, 'source'), CONTENT),
    judge: async (folder, ended) => {
      const files = filesOf(folder);
      if (!files.has('target')) return ended ? 'there is no target' : undefined;
      const state = new Map([...files].map(([of, bytes]) => [of, new PagedStorage(of, bytes)]));
      const fault = await judge(state, 0, { file: 'target', disk: model });
      if (fault !== undefined) return fault;
      const { status, stdout } = await run('qemu-img', ['check', 'target'], folder);
      return status === 0 ? undefined : `qemu-img check: ${stdout}`;
    },
  };
}

const ZEROS = new Uint8Array(SIZE);

const CASES: readonly KillCase[] = [
  making('create', ['create', '-q', '-f', 'qcow2', 'target', '24M'], ZEROS),
  making(
    'create, preallocated',
    ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=full', 'target', '24M'],
    ZEROS,
  ),
  making('convert', ['convert', '-f', 'raw', '-O', 'qcow2', 'source', 'target'], CONTENT),
  making(
    'convert, compressed, two threads',
    ['convert', '-m', '2', '-c', '-f', 'raw', '-O', 'qcow2', 'source', 'target'],
    CONTENT,
  ),
];

describe('a command that is killed', () => {
  for (const killCase of CASES) {
    it(`${killCase.name}: leaves no target or the whole one`, async () => {
      const { killed, failure } = await killAtRandom(killCase, { runs: 12 });
      expect(failure).toBeUndefined();
      expect(killed).toBeGreaterThan(3);
    });
  }
});
