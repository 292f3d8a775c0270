/** Bytes in, bytes out, with the options of node:zlib. */
type ZlibFunction = (input: Uint8Array, options: Readonly<Record<string, unknown>>) => Uint8Array;

/** The part of node:zlib the codecs use. Node has zstd from 22.15 on. */
export interface HostZlib {
  readonly zstdCompressSync?: ZlibFunction;
  readonly constants: Readonly<Record<string, number>>;
}

/**
 * node:zlib where the host has it. Asked for at run time, because an `import` of it, static or
 * dynamic, makes bundlers for the browser fail or ship a replacement.
 */
export function hostZlib(): HostZlib | undefined {
  const host = globalThis as {
    process?: { getBuiltinModule?: (name: string) => unknown };
  };
  return host.process?.getBuiltinModule?.('node:zlib') as HostZlib | undefined;
}
