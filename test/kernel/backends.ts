import { readFileSync } from 'node:fs';
import { buildWasm, TARGETS, wasmPath } from '../../scripts/build-wasm.mjs';

// The sources import the generated module, so it must exist before they are loaded.
await buildWasm();
const { Kernel } = await import('../../src/kernel/kernel.ts');
const { instantiate } = await import('../../src/kernel/load.ts');
const { createScalarExports } = await import('../../src/kernel/scalar.ts');

export type TestKernel = InstanceType<typeof Kernel>;

export interface Backend {
  name: string;
  kernel: TestKernel;
}

/** A new kernel over a module of `build/`. */
export function loadTarget(target: string): TestKernel {
  const module = new WebAssembly.Module(readFileSync(wasmPath(target)));
  return new Kernel(target.endsWith('simd') ? 'wasm-simd' : 'wasm', instantiate(module));
}

/** The TypeScript kernels, which the others are compared with. */
export function loadScalar(): TestKernel {
  return new Kernel('js', createScalarExports());
}

export { TARGETS };

/** A new kernel of every kind. */
export function allBackends(): Backend[] {
  const compiled = TARGETS.map((name: string) => ({ name, kernel: loadTarget(name) }));
  return [...compiled, { name: 'js', kernel: loadScalar() }];
}
