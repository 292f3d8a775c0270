import { Qcow2Error } from '../errors.ts';
import { PROBE_BYTES } from '../format/probe.ts';
import { probe } from '../image/identify.ts';
import { resolveName } from '../node/once.ts';
import { PACKING_BYTES, packingOf } from '../node/packing.ts';
import { type SpillOptions, spill } from '../node/spill.ts';
import { nothingCame } from '../operations/convert-stream.ts';
import type { ByteStream } from '../storage/byte-stream.ts';
import { FileStorage } from '../storage/file.ts';
import { shownName } from '../storage/http-url.ts';
import { MemoryStorage } from '../storage/memory.ts';
import type { Storage } from '../storage/storage.ts';
import type { InputFiles } from './messages.ts';

type Input = InputFiles['inputs'][number];

/** The inputs of an operation once their names have been looked at. */
export interface SettledInputs {
  inputs: readonly Input[];
  /** The only input, if it is a raw disk that is to be read in one pass. */
  stream?: ByteStream | undefined;
  /** Gives up what is kept of streams. */
  close: () => void;
}

/** How streams among the inputs are read. */
export interface SettleOptions extends Pick<InputFiles, 'inputs' | 'http'> {
  spill?: Pick<SpillOptions, 'memoryBytes' | 'folder'> | undefined;
  signal?: AbortSignal | undefined;
  /** Called with the bytes of a stream that have come to be kept. */
  onKept?: SpillOptions['onProgress'];
  /** A raw disk need not be kept: it is read once, from its first byte to its last. */
  onePass: boolean;
}

/**
 * Reads inputs that come as streams (standard input, packed files) and keeps them where all threads
 * can read them in any order. Those that are kept already stay as they are.
 * @throws Qcow2Error those of `resolveName`, of reading the stream and of `spillStorage`
 */
export async function settleInputs(options: SettleOptions): Promise<SettledInputs> {
  const { http, signal, spill: keep, onePass, onKept } = options;
  const inputs: Input[] = [];
  const kept: Storage[] = [];
  const close = (): void => {
    for (const storage of kept) void storage.close();
  };
  try {
    for (const input of options.inputs) {
      if (input.copy !== undefined) {
        inputs.push(input);
        continue;
      }
      const named = await resolveName(input.path, { http: { ...http, signal } }, signal);
      if ('path' in named) {
        inputs.push({ ...input, path: named.path });
        continue;
      }
      const { stream } = named;
      await requireBytes(stream);
      const format = input.format ?? (await formatOf(stream));
      if (onePass && format === 'raw') return { inputs: [input], stream, close };
      const storage = await spill(stream, { ...keep, signal, onProgress: onKept });
      kept.push(storage);
      inputs.push({ ...input, format, copy: copyOf(storage, input.path, stream.name) });
    }
    return { inputs, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** @throws Qcow2Error REFUSED, and it is given up: no byte comes */
async function requireBytes(stream: ByteStream): Promise<void> {
  try {
    if (await stream.isAtEnd()) throw nothingCame(stream.name);
  } catch (error) {
    await stream.close();
    throw error;
  }
}

/** What a stream is by its first bytes; it is given up if that cannot be told. */
async function formatOf(stream: ByteStream): Promise<'qcow2' | 'raw'> {
  try {
    const bytes = await stream.peek(PROBE_BYTES);
    const packing = packingOf(bytes.subarray(0, PACKING_BYTES));
    if (packing !== undefined) throw isPacked(stream.name, packing);
    return await probe(new MemoryStorage(bytes, stream.name));
  } catch (error) {
    await stream.close();
    throw error;
  }
}

function isPacked(name: string, packing: string): Qcow2Error {
  const text = `${name} begins like a ${packing} file: unpack it first, or take its bytes as they are with -f raw`;
  return new Qcow2Error('REFUSED', text, { file: name });
}

function copyOf(storage: FileStorage | MemoryStorage, path: string, name: string): Input['copy'] {
  // Names an image records are taken from its folder, which a pipe does not have.
  const isFile = name.startsWith("'");
  const place = storage instanceof FileStorage ? { path: `/proc/self/fd/${storage.fd}` } : storage;
  return {
    name: isFile ? shownName(path) : name,
    hasFolder: isFile,
    ...('path' in place ? place : { bytes: place.bytes }),
  };
}
