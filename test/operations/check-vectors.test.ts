import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { qcow2 } from '../cli/command.ts';
import { VECTORS, type Vector } from '../format/vector.ts';
import { run } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { checkImage, counters, scriptLines, shell, statusFor } from './check-support.ts';

type CheckVector = Vector & { commands: string[]; image: string };
const CHECKS = VECTORS.filter(({ kind }) => kind === 'check_result') as CheckVector[];

let root: string;
beforeAll(() => {
  root = makeTempDir('check-vectors');
});
afterAll(() => removeTempDir(root));

describe('recorded results of check', () => {
  it('are all there', () => expect(CHECKS.length).toBe(34));

  it.concurrent.each(CHECKS.map((vector) => [vector.id, vector] as const))(
    '%s',
    async (id, { commands, image, decoded }) => {
      const dir = join(root, id);
      mkdirSync(dir);
      await shell(commands.slice(0, -1), dir);
      const path = join(dir, image);
      const { exit_code: status, file_length: length, ...recorded } = decoded;
      expect(statSync(path).size).toBe(Number(length));

      const result = await checkImage(path);
      expect(counters(result)).toEqual(recorded);
      expect(statusFor(result)).toBe(status);
      expect(result.refusals).toBe(0);

      for (const style of ['json', 'human']) {
        const args = ['check', `--output=${style}`, path];
        const live = await run('qemu-img', args, dir);
        const ours = await qcow2(...args);
        expect([ours.status, ours.stdout]).toEqual([live.status, live.stdout]);
        expect(scriptLines(ours.stderr)).toEqual(scriptLines(live.stderr));
        expect(ours.stderr.split('\n').length).toBe(live.stderr.split('\n').length);
      }
    },
    30_000,
  );
});
