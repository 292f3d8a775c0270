import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sizeText } from '../../src/cli/print-human.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';

let dir: string;
beforeAll(() => {
  dir = makeTempDir('print');
});
afterAll(() => removeTempDir(dir));

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = [
  0,
  512,
  KIB,
  1536,
  10 * KIB,
  12800,
  126464,
  999 * KIB,
  1023488,
  1000 * KIB,
  MIB,
].concat(
  // Ties between two texts.
  [197120, 1.125 * MIB, 1.375 * MIB, 12.25 * MIB, 12.75 * MIB, 100.5 * MIB, 101.5 * MIB],
  [1048051712, 1000 * MIB, 1.5 * KIB * MIB, 1000 * KIB * MIB, 2 ** 42],
);

describe('sizes', () => {
  it.each(SIZES)('prints %d bytes as qemu-img does', async (size) => {
    await runOk('qemu-img', ['create', '-q', '-f', 'raw', 'sized', String(size)], dir);
    const { stdout } = await runOk('qemu-img', ['info', 'sized'], dir);
    expect(stdout).toContain(`virtual size: ${sizeText(size)} (${size} bytes)\n`);
  });

  it.each([
    [2 ** 50, '1 PiB'],
    [2 ** 53 - 1, '8 PiB'],
    [1023 * 2 ** 40, '0.999 PiB'],
  ])('prints %d bytes', (size, text) => {
    expect(sizeText(size)).toBe(text);
  });
});
