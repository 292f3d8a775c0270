import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { wasmPath } from '../../scripts/build-wasm.mjs';
import * as abi from '../../src/kernel/abi.ts';
import { allBackends, loadScalar, TARGETS } from './backends.ts';

const FUNCTIONS = Object.keys(loadScalar().exports).filter((name) => name !== 'memory');

describe.each(TARGETS)('module %s', (target: string) => {
  const module = new WebAssembly.Module(readFileSync(wasmPath(target)));

  test('imports nothing', () => {
    expect(WebAssembly.Module.imports(module)).toEqual([]);
  });

  test('exports the ABI and its memory, and no runtime', () => {
    const exports = WebAssembly.Module.exports(module);
    expect(exports.map(({ name }) => name).sort()).toEqual([...FUNCTIONS, 'memory'].sort());
    for (const { name, kind } of exports)
      expect(kind).toBe(name === 'memory' ? 'memory' : 'function');
  });
});

test('assembly/abi.ts has the constants of src/kernel/abi.ts', () => {
  const text = readFileSync(new URL('../../assembly/abi.ts', import.meta.url), 'utf8');
  const constants = [...text.matchAll(/^export const (\w+) = (\d+);$/gm)];
  expect(Object.fromEntries(constants.map(([, name, value]) => [name, Number(value)]))).toEqual({
    ...abi,
  });
});

test.each(allBackends())('$name reports its version, vectors and memory', ({ name, kernel }) => {
  expect(kernel.exports.abi_version()).toBe(abi.ABI_VERSION);
  expect(kernel.exports.has_simd()).toBe(name.endsWith('simd') ? 1 : 0);
  expect(kernel.exports.heap_base()).toBeLessThan(65536);
  expect(kernel.exports.memory.buffer.byteLength).toBe(65536);
});
