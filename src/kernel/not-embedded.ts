import type { EmbeddedKernels } from './embedded.ts';

/** No kernels, for `qcow2/slim`: the host compiles `qcow2.wasm` and gives it to `init`. */
export const embedded: EmbeddedKernels | undefined = undefined;
