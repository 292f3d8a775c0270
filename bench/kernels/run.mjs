// Kernels in one process: WebAssembly and its TypeScript twin against C, node:zlib and npm packages.
import { loadInputs } from './inputs.mjs';
import { nativeContenders } from './natives.mjs';
import { packages } from './packages.mjs';
import { runSuites } from './suites.mjs';

/** @param {{ only: string[], milliseconds: number, log: (text: string) => void }} options */
export async function runKernelBenches({ only, milliseconds, log }) {
  const inputs = await loadInputs(log);
  const natives = nativeContenders(log);
  const kinds = new Set([...Object.keys(natives), ...Object.keys(packages)]);
  const others = {};
  for (const kind of kinds) others[kind] = { ...natives[kind], ...packages[kind] };
  return await runSuites({ only, inputs, others, isNode: true, milliseconds, log });
}
