import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Progress } from '../../src/cli/progress.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('progress');
});
afterAll(() => removeTempDir(dir));

describe('progress', () => {
  it('is written as qemu-img writes it', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'a', '4M'], dir);
    await runOk('qemu-io', ['-c', 'write 0 1M', '-c', 'write 3M 64k', 'a'], dir);
    const { stdout } = await runOk(
      'qemu-img',
      ['convert', '-p', '-c', '-O', 'qcow2', 'a', 'b'],
      dir,
    );
    const percents = [...stdout.matchAll(/\((\d+\.\d\d)\/100%\)\r/g)].map(([, text]) =>
      Number(text),
    );
    let ours = '';
    const progress = new Progress((text) => {
      ours += text;
    });
    // The first line comes with the start, the last with the end.
    for (const percent of percents.slice(1, -1)) progress.update(percent, 100);
    progress.end(true);
    expect(percents.length).toBeGreaterThan(10);
    expect(ours).toBe(stdout);
  });

  it('is written as qemu-img writes it when there is nothing to copy', async () => {
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', 'empty', '1G'], dir);
    const { stdout } = await runOk('qemu-img', ['convert', '-p', '-O', 'raw', 'empty', 'c'], dir);
    let ours = '';
    new Progress((text) => {
      ours += text;
    }).end(true);
    expect(ours).toBe(stdout);
  });

  it('prints only when a percent was added, and always the last', () => {
    const lines: string[] = [];
    const progress = new Progress((text) => lines.push(text));
    for (const done of [1, 5, 10, 14, 20, 995, 999.9, 1000]) progress.update(done, 1000);
    const shown = ['0.00', '1.00', '2.00', '99.50', '100.00'];
    expect(lines).toEqual(shown.map((percent) => `    (${percent}/100%)\r`));
  });

  it('keeps the percentage of a failure', () => {
    let text = '';
    const progress = new Progress((part) => {
      text += part;
    });
    progress.update(0, 0);
    progress.update(1, 2);
    progress.end(false);
    expect(text).toBe('    (0.00/100%)\r    (50.00/100%)\r\n');
    expect(progress.line()).toBe('    (50.00/100%)');
  });
});
