import type { KernelExports } from './exports.ts';
import { createScalarExports } from './scalar.ts';
import { WASM_SCALAR, WASM_SIMD } from './wasm.generated.ts';

/** Kernels that are part of a build of the package. */
export interface EmbeddedKernels {
  /** Modules as base64. */
  wasmSimd: string;
  wasm: string;
  createScalarExports(): KernelExports;
}

/** All of them; `qcow2/slim` is built with `not-embedded.ts` in the place of this file. */
export const embedded: EmbeddedKernels | undefined = {
  wasmSimd: WASM_SIMD,
  wasm: WASM_SCALAR,
  createScalarExports,
};
