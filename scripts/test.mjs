// `npm test [-- arguments of vitest]`: set-up, lint, types, tests. Every check runs even when an earlier
// one failed. The last line is `N passed, N failed`: tests of vitest, and each other check as one.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, installDebianPackages, installDependencies, root, setUp } from './setup.mjs';

/** Checks beside the tests, by what they are called in the output. */
const CHECKS = [
  {
    name: 'lint',
    program: 'node_modules/@biomejs/biome/bin/biome',
    args: ['check', '--error-on-warnings', '.'],
  },
  { name: 'types of tests', program: 'node_modules/typescript/bin/tsc', args: ['-p', 'test'] },
  { name: 'types of the page', program: 'node_modules/typescript/bin/tsc', args: ['-p', 'web'] },
  { name: 'types of scripts', program: 'node_modules/typescript/bin/tsc', args: ['-p', 'scripts'] },
];

function node(program, ...args) {
  const { status } = spawnSync(process.execPath, [join(root, program), ...args], {
    cwd: root,
    stdio: 'inherit',
  });
  return status === 0;
}

/** Counts of vitest's JSON report; a file that could not be loaded, and a skipped test, have failed. */
function countTests(report, succeeded, everything) {
  if (report === undefined) return { passed: 0, failed: 1 };
  const unloaded = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.every((t) => t.status === 'passed'),
  );
  for (const file of unloaded) console.error(`not loaded: ${file.name}`);
  const skipped = everything ? report.numPendingTests + report.numTodoTests : 0;
  if (skipped > 0) console.error(`${skipped} tests were skipped: a full run skips none`);
  const failed = report.numFailedTests + unloaded.length + skipped;
  // Errors outside of tests are in vitest's exit status alone.
  return { passed: report.numPassedTests, failed: failed === 0 && !succeeded ? 1 : failed };
}

function runTests(args) {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-test-report-'));
  const path = join(folder, 'report.json');
  try {
    const succeeded = node(
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${path}`,
      ...args,
    );
    return countTests(readReport(path), succeeded, args.length === 0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function testEverything() {
  if (!setUp(installDependencies, installDebianPackages, build)) return { passed: 0, failed: 1 };
  const failures = CHECKS.filter(({ program, args }) => !node(program, ...args));
  const tests = runTests(process.argv.slice(2));
  for (const { name } of failures) console.error(`failed: ${name}`);
  return {
    passed: tests.passed + CHECKS.length - failures.length,
    failed: tests.failed + failures.length,
  };
}

const { passed, failed } = testEverything();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
