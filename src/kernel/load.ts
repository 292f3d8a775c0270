import { hex, Qcow2Error } from '../errors.ts';
import { ABI_VERSION } from './abi.ts';
import { embedded } from './embedded.ts';
import type { KernelExports } from './exports.ts';

/** Who does the work: WebAssembly with or without SIMD, or TypeScript. */
export type KernelBackend = 'wasm-simd' | 'wasm' | 'js';

/** Once per realm. */
const compiled = new Map<KernelBackend, WebAssembly.Module>();
/** What `init` was given: of the backend `wasm-simd`. */
let given: WebAssembly.Module | undefined;

function decodeBase64(base64: string): Uint8Array<ArrayBuffer> {
  // Where there is Node's own decoder: the other way takes it several ms, in each thread.
  const { Buffer } = globalThis as { Buffer?: typeof globalThis.Buffer };
  if (Buffer !== undefined) return Buffer.from(base64, 'base64');
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * Uses a module that the host has compiled, from the file `qcow2/qcow2.wasm`, in place of the bytes
 * that are part of the package. Call it before opening anything, on hosts that forbid compiling at
 * run time (there everything else works without it, but slower, by the backend `js`), and with
 * `qcow2/slim`, of which no kernel is a part.
 * @throws Qcow2Error UNSUPPORTED: the module is of another version of the package
 * @example
 * import { readFile } from 'node:fs/promises';
 * import { createKernel, init } from 'qcow2';
 *
 * const url = new URL(import.meta.resolve('qcow2/qcow2.wasm'));
 * init(await WebAssembly.compile(await readFile(url)));
 * console.log(createKernel().backend); // wasm-simd
 */
export function init(module: WebAssembly.Module): void {
  instantiate(module);
  given = module;
}

/** Whether this engine can, and this host lets it, run a backend. */
export function isSupported(backend: KernelBackend): boolean {
  return backend === 'js' ? embedded !== undefined : moduleOf(backend) !== undefined;
}

function moduleOf(backend: 'wasm-simd' | 'wasm'): WebAssembly.Module | undefined {
  if (backend === 'wasm-simd' && given !== undefined) return given;
  if (typeof WebAssembly !== 'object' || embedded === undefined) return undefined;
  let module = compiled.get(backend);
  if (module !== undefined) return module;
  try {
    const base64 = backend === 'wasm-simd' ? embedded.wasmSimd : embedded.wasm;
    module = new WebAssembly.Module(decodeBase64(base64));
    compiled.set(backend, module);
  } catch {
    // No SIMD; or not allowed, by a content security policy without 'wasm-unsafe-eval' for example.
  }
  return module;
}

/** The fastest backend this engine can run. */
export function bestBackend(): KernelBackend {
  if (isSupported('wasm-simd')) return 'wasm-simd';
  return isSupported('wasm') ? 'wasm' : 'js';
}

/**
 * A new instance, with memory of its own, of a module compiled from `assembly/`.
 * @throws Qcow2Error UNSUPPORTED: the module has another ABI version
 */
export function instantiate(module: WebAssembly.Module): KernelExports {
  const exports = new WebAssembly.Instance(module).exports as unknown as KernelExports;
  const version = exports.abi_version?.();
  if (version !== ABI_VERSION) {
    throw new Qcow2Error(
      'UNSUPPORTED',
      `kernel module has ABI version ${version === undefined ? 'none' : hex(version)}, this build needs ${hex(ABI_VERSION)}: rebuild the package`,
      { structure: 'kernel module', value: version },
    );
  }
  return exports;
}

/**
 * A new instance of a backend.
 * @throws Qcow2Error UNSUPPORTED: the engine cannot run it
 */
export function loadExports(backend: KernelBackend): KernelExports {
  if (backend === 'js' && embedded !== undefined) return embedded.createScalarExports();
  const module = backend === 'js' ? undefined : moduleOf(backend);
  if (module !== undefined) return instantiate(module);
  const text =
    embedded === undefined
      ? 'no kernel is part of qcow2/slim: compile qcow2/qcow2.wasm and give it to init() first'
      : `this engine cannot run the kernel backend ${backend}: leave the choice to createKernel or use js`;
  throw new Qcow2Error('UNSUPPORTED', text, { value: backend });
}
