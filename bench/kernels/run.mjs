// Kernels in one process: WebAssembly and its TypeScript twin against C, node:zlib and npm packages.
import { loadInputs } from './inputs.mjs';
import { otherContenders } from './natives.mjs';
import { runSuites, suiteNames } from './suites.mjs';

/**
 * @param {object} options
 * @param {(name: string) => boolean} options.wants
 * @param {number} options.milliseconds for each contender
 * @param {(text: string) => void} options.log
 */
export async function runKernelBenches({ wants, milliseconds, log }) {
  const names = suiteNames().filter(wants);
  if (names.length === 0) return [];
  const inputs = await loadInputs(log);
  return await runSuites({ names, inputs, others: otherContenders(log), milliseconds, log });
}
