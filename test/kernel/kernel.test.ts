import { afterEach, describe, expect, test, vi } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { RUN_BYTES, RUN_KIND_BITS } from '../../src/kernel/abi.ts';
import { allBackends, loadScalar } from './backends.ts';

const { createKernel } = await import('../../src/kernel/kernel.ts');
const { RunReader } = await import('../../src/kernel/run-reader.ts');

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isQcow2Error(error)) return error.code;
    throw error;
  }
  return 'none';
}

describe.each(allBackends())('arena of $name', ({ kernel }) => {
  const { arena, exports } = kernel;

  test('regions are aligned, apart by the slack, and survive growth', () => {
    const a = arena.allocate(1);
    const b = arena.allocate(100);
    expect(a.ptr % 16).toBe(0);
    expect(a.ptr).toBeGreaterThanOrEqual(exports.heap_base());
    expect(b.ptr - a.ptr).toBeGreaterThanOrEqual(321);
    const view = a.bytes;
    expect(a.bytes).toBe(view);
    view[0] = 77;
    const big = arena.allocate(300_000);
    expect(arena.u8.length).toBeGreaterThanOrEqual(big.ptr + 300_320);
    expect(a.bytes === view).toBe(false);
    expect(a.bytes[0]).toBe(77);
    expect(arena.contains(a.bytes)).toBe(true);
    expect(arena.contains(view)).toBe(false);
    expect(arena.pointer(a.bytes)).toBe(a.ptr);
    expect(arena.u32.length * 4).toBe(arena.u8.length);
    expect(arena.f64.length * 8).toBe(arena.u8.length);
  });

  test('what was reserved is taken without growth', () => {
    const region = arena.allocate(1);
    arena.reserve(1_000_000);
    const view = region.bytes;
    arena.allocate(600_000);
    arena.allocate(300_000);
    expect(region.bytes).toBe(view);
  });

  test('released regions are used again, once', () => {
    const region = arena.allocate(5000);
    arena.release(region);
    expect(arena.allocate(5000).ptr).toBe(region.ptr);
    expect(arena.allocate(5000).ptr).not.toBe(region.ptr);
    expect(codeOf(() => arena.release(region))).toBe('INVALID_ARGUMENT');
  });

  test('refuses lengths that are none, and views of other memory', () => {
    for (const length of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(codeOf(() => arena.allocate(length))).toBe('INVALID_ARGUMENT');
    }
    expect(codeOf(() => arena.allocate(2 ** 40))).toBe('TOO_LARGE');
    expect(codeOf(() => arena.pointer(new Uint8Array(4)))).toBe('INVALID_ARGUMENT');
  });

  test('isZero takes addresses, its own views and others', () => {
    const region = arena.allocate(1000);
    region.bytes.fill(0);
    expect(kernel.isZero(region.ptr, 1000)).toBe(true);
    expect(kernel.isZero(region.bytes.subarray(3, 700))).toBe(true);
    region.bytes[699] = 1;
    expect(kernel.isZero(region.ptr, 1000)).toBe(false);
    expect(kernel.isZero(region.bytes.subarray(3, 699))).toBe(true);
    expect(kernel.isZero(region.bytes.subarray(3, 700))).toBe(false);
    const other = new Uint8Array(200_000);
    expect(kernel.isZero(other)).toBe(true);
    other[199_999] = 1;
    expect(kernel.isZero(other)).toBe(false);
    expect(kernel.isZero(new Uint8Array(0))).toBe(true);
  });

  test('RunReader reads records', () => {
    const runs = new RunReader(arena, 64);
    const view = new DataView(runs.region.bytes.buffer, runs.pointer);
    for (let i = 0; i < 4; i++) {
      view.setUint32(i * RUN_BYTES, (4 + i) | ((2 ** 28 + i) << RUN_KIND_BITS), true);
      view.setUint32(i * RUN_BYTES + 4, 100 * i ** 2, true);
      view.setFloat64(i * RUN_BYTES + 8, 2 ** 50 + i, true);
    }
    for (let i = 0; i < 3; i++) {
      expect([runs.kind(i), runs.first(i), runs.units(i), runs.aux(i), runs.host(i)]).toEqual([
        4 + i,
        100 * i ** 2,
        100 * (2 * i + 1),
        2 ** 28 + i,
        2 ** 50 + i,
      ]);
    }
    expect(runs.region.length).toBe(65 * RUN_BYTES);
    expect(runs.capacity).toBe(64);
  });
});

describe('createKernel', () => {
  afterEach(() => vi.unstubAllGlobals());

  test('prefers SIMD, and makes what is asked for', () => {
    expect(createKernel().backend).toBe('wasm-simd');
    expect(createKernel().exports.has_simd()).toBe(1);
    expect(createKernel({ backend: 'wasm' }).exports.has_simd()).toBe(0);
    expect(createKernel({ backend: 'js' }).exports.memory).toHaveProperty('view');
  });

  test('kernels have memories of their own', () => {
    expect(createKernel().exports.memory).not.toBe(createKernel().exports.memory);
    expect(loadScalar().exports.memory).not.toBe(loadScalar().exports.memory);
  });

  test('falls back where WebAssembly is missing', () => {
    vi.stubGlobal('WebAssembly', undefined);
    expect(createKernel().backend).toBe('js');
    expect(codeOf(() => createKernel({ backend: 'wasm' }))).toBe('UNSUPPORTED');
  });

  test('falls back where vectors are missing', async () => {
    // What was compiled is kept: modules that have compiled nothing yet.
    vi.resetModules();
    const fresh = await import('../../src/kernel/kernel.ts');
    const { Module } = WebAssembly;
    let calls = 0;
    function withoutVectors(bytes: BufferSource): WebAssembly.Module {
      if (calls++ === 0) throw new WebAssembly.CompileError('no vectors');
      return new Module(bytes);
    }
    vi.stubGlobal('WebAssembly', Object.create(WebAssembly, { Module: { value: withoutVectors } }));
    expect(fresh.createKernel().backend).toBe('wasm');
  });
});
