import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { qemuImg, subject } from './tools.ts';
import { Workshop } from './workshop.ts';

const workshop = new Workshop('oracle-locks');
beforeAll(() => workshop.open());
afterAll(() => workshop.close());

/** qemu-io with an image open until its standard input ends. */
async function holding(args: readonly string[], dir: string): Promise<ChildProcess> {
  const child = spawn('qemu-io', [...args], { cwd: dir, stdio: ['pipe', 'pipe', 'inherit'] });
  // Its prompt comes when the image is open.
  await once(child.stdout!, 'data');
  return child;
}

async function release(child: ChildProcess): Promise<void> {
  child.stdin!.end('quit\n');
  await once(child, 'exit');
}

describe('images that QEMU has open', () => {
  test('for writing: refused unless shared, as by qemu-img', { timeout: 60_000 }, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 a.qcow2 1M'.split(' '), dir);
      await qemuImg('create -q -f qcow2 -b a.qcow2 -F qcow2 top.qcow2'.split(' '), dir);
      const writer = await holding(['a.qcow2'], dir);
      for (const verb of [
        ['info', 'a.qcow2'],
        ['map', 'a.qcow2'],
        ['map', 'top.qcow2'],
        ['convert', 'a.qcow2', 'a.raw'],
      ]) {
        const [name = '', ...files] = verb;
        const refused = await subject([name, ...files], dir);
        expect(refused.status, verb.join(' ')).toBe(1);
        expect(refused.stderr).toMatch(
          /^qcow2: Could not open 'a?.*another program has it open.*\n$/,
        );
        expect((await subject([name, '-U', ...files], dir)).status, `-U ${verb.join(' ')}`).toBe(0);
      }
      await release(writer);
      expect((await subject(['info', 'a.qcow2'], dir)).status).toBe(0);
    }),
  );

  test('for reading: nothing is refused', { timeout: 60_000 }, () =>
    workshop.inFolder(async (dir) => {
      await qemuImg('create -q -f qcow2 a.qcow2 1M'.split(' '), dir);
      const reader = await holding(['-r', 'a.qcow2'], dir);
      expect((await subject(['info', 'a.qcow2'], dir)).status).toBe(0);
      expect((await subject(['convert', 'a.qcow2', 'a.raw'], dir)).status).toBe(0);
      await release(reader);
    }),
  );
});
