import { isHttpUrl } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';

/** How a file as a whole is compressed. */
export type Packing = 'gzip' | 'zstd' | 'xz';

/** By the end of the name: a guest could write the first bytes into its disk, but not the name. */
const SUFFIXES: readonly { suffix: string; packing: Packing; magic: readonly number[] }[] = [
  { suffix: '.gz', packing: 'gzip', magic: [0x1f, 0x8b] },
  { suffix: '.zst', packing: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { suffix: '.xz', packing: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
];

/** Bytes `packingOf` wants to see. */
export const PACKING_BYTES = 6;

/** What the name of a file, or the path of a URL, says it is packed with. */
export function packingByName(name: string): Packing | undefined {
  const path = isHttpUrl(name) && URL.canParse(name) ? new URL(name).pathname : name;
  return SUFFIXES.find(({ suffix }) => path.toLowerCase().endsWith(suffix))?.packing;
}

/** What the first bytes of a file look like. */
export function packingOf(bytes: Uint8Array): Packing | undefined {
  // A zstd file may begin with a frame that is to be skipped.
  const [first = 0, ...next] = bytes.subarray(0, 4);
  if (first >> 4 === 5 && [0x2a, 0x4d, 0x18].every((byte, i) => next[i] === byte)) return 'zstd';
  return SUFFIXES.find(({ magic }) => magic.every((byte, i) => bytes[i] === byte))?.packing;
}

/** Whether a file begins as its name says. */
export async function isPackedAs(storage: Storage, packing: Packing): Promise<boolean> {
  const bytes = new Uint8Array(PACKING_BYTES);
  const length = await storage.read(0, bytes);
  return packingOf(bytes.subarray(0, length)) === packing;
}
