import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { optionsOf } from '../../src/cli/arguments.ts';
import { completionScript, SHELLS } from '../../src/cli/completions.ts';
import { generalHelp, verbHelp } from '../../src/cli/help.ts';
import { manPage } from '../../src/cli/man-page.ts';
import { VERBS, type VerbName } from '../../src/cli/options.ts';

const verbs = Object.keys(VERBS) as VerbName[];
const shown = (verb: VerbName) => optionsOf(verb).filter((option) => option.refused === undefined);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qcow2-table-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('help, manual page and completions say the same', () => {
  test.each(verbs)('%s', (verb) => {
    const help = verbHelp(verb);
    const man = manPage('1.2.3').replaceAll('\\-', '-');
    expect(generalHelp()).toContain(VERBS[verb].summary);
    for (const { short, long, help: text } of shown(verb)) {
      for (const name of [short && `-${short}`, long && `--${long}`].filter(Boolean)) {
        expect(help).toContain(name);
        expect(man).toContain(`\\fB${name}\\fR`);
        for (const shell of SHELLS) {
          const plain =
            shell === 'fish'
              ? `${short === undefined || name?.startsWith('--') ? `-l ${long}` : `-s ${short}`}`
              : name;
          expect(completionScript(shell)).toContain(plain);
        }
      }
      expect(man).toContain(text);
    }
  });

  test('the completion of bash answers', () => {
    const file = join(folder, 'qcow2.bash');
    writeFileSync(file, completionScript('bash'));
    const complete = (words: string[]) => {
      const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _qcow2; echo "\${COMPREPLY[*]}"`;
      const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', file, ...words], {
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      return stdout.trim().split(' ');
    };
    expect(complete(['qcow2', 'c'])).toEqual(
      expect.arrayContaining(['check', 'create', 'convert', 'compare']),
    );
    expect(complete(['qcow2', 'convert', '--target'])).toEqual(['--target-is-zero']);
    expect(complete(['qcow2', 'convert', '-O', 'q'])).toEqual(['qcow2']);
  });

  test('the manual page has no line that roff would misread', () => {
    for (const line of manPage('1.2.3').split('\n'))
      if (/^[.']/.test(line)) expect(line).toMatch(/^\.(TH|SH|SS|TP|B|br|nf|fi)\b/);
  });
});
