// Kernels in one process: WebAssembly and its TypeScript twin against C, node:zlib and npm packages.
import { loadInputs } from './inputs.mjs';
import { otherContenders } from './natives.mjs';
import { runSuites } from './suites.mjs';

/** @param {{ only: string[], milliseconds: number, log: (text: string) => void }} options */
export async function runKernelBenches({ only, milliseconds, log }) {
  const inputs = await loadInputs(log);
  const others = otherContenders(log);
  return await runSuites({ only, inputs, others, milliseconds, log });
}
