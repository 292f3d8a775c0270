// The kernel suites in a page.
import { pack } from '../kernels/batch.mjs';
import { packages } from '../kernels/packages.mjs';
import { runSuites } from '../kernels/suites.mjs';

/**
 * @param {object} options as of `runSuites`
 * @param {Record<string, number[]>} options.lengths of the pieces in each file of `/inputs`
 */
export async function run({ lengths, ...options }) {
  if (!globalThis.crossOriginIsolated) throw new Error('the clock is coarse: no isolation');
  const inputs = {};
  for (const [name, list] of Object.entries(lengths)) inputs[name] = await load(name, list);
  const log = (text) => console.log(text);
  return await runSuites({ ...options, inputs, others: packages, log });
}

async function load(name, lengths) {
  const bytes = new Uint8Array(await (await fetch(`/inputs/${name}`)).arrayBuffer());
  let at = 0;
  return pack(
    lengths.map((length) => {
      at += length;
      return bytes.subarray(at - length, at);
    }),
  );
}
