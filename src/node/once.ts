import * as fs from 'node:fs';
import * as tty from 'node:tty';
import { Qcow2Error } from '../errors.ts';
import { ByteStream } from '../storage/byte-stream.ts';
import { ioError } from '../storage/file.ts';
import { shownName } from '../storage/http-url.ts';
import type { Storage } from '../storage/storage.ts';
import { type OpenStorageOptions, openStorage } from './open-storage.ts';
import { isPackedAs, type Packing, packingByName } from './packing.ts';
import { pipePieces } from './pipe-source.ts';
import { unpacked } from './unpack.ts';

/** Bytes read at a time of a file of which a part was read before. */
const FILE_PIECE_BYTES = 2 ** 20;

/** Where a name leads: to a file or URL, which can be opened more than once, or to a stream. */
export type Named = { path: string } | { stream: ByteStream };

/**
 * Finds out where a name leads that a caller gave: `-` and `/dev/stdin` are standard input, `/dev/fd/N`
 * another open descriptor. Files in names of gzip, zstd and xz are unpacked if they begin as such.
 * @throws Qcow2Error REFUSED: a terminal, a folder, a name that says something else than the file;
 *   NOT_FOUND, IO
 */
export async function resolveName(
  name: string,
  options: OpenStorageOptions,
  signal: AbortSignal | undefined,
): Promise<Named> {
  const fd = descriptorOf(name);
  if (fd !== undefined) return openDescriptor(fd, name, signal);
  const packing = packingByName(name);
  if (packing === undefined) return { path: name };
  const storage = await openStorage(name, { ...options, sync: false });
  try {
    await requirePacking(storage, packing, shownName(name));
  } catch (error) {
    await storage.close();
    throw error;
  }
  const packed = new PackedBytes(storage);
  const pieces = closing(unpacked(packed, packing), storage);
  const fraction = (): number => packed.fraction;
  return { stream: new ByteStream(pieces, `'${shownName(name)}'`, signal, fraction) };
}

/** A packed file, which remembers how far it was read. */
class PackedBytes implements Storage {
  readonly name: string;
  readonly #storage: Storage;
  #reached = 0;

  constructor(storage: Storage) {
    this.name = storage.name ?? 'file';
    this.#storage = storage;
  }

  get size(): number {
    return this.#storage.size;
  }

  /** How much of it was read, 0 to 1. */
  get fraction(): number {
    return this.size === 0 ? 1 : this.#reached / this.size;
  }

  async read(offset: number, into: Uint8Array): Promise<number> {
    const length = await this.#storage.read(offset, into);
    this.#reached = Math.max(this.#reached, offset + length);
    return length;
  }

  close(): void | Promise<void> {
    return this.#storage.close();
  }
}

async function* closing(
  pieces: AsyncIterable<Uint8Array>,
  storage: Storage,
): AsyncGenerator<Uint8Array> {
  try {
    yield* pieces;
  } finally {
    await storage.close();
  }
}

/** Guests can write what they like to the first bytes of a disk: the name has to say it as well. */
async function requirePacking(storage: Storage, packing: Packing, name: string): Promise<void> {
  if (await isPackedAs(storage, packing)) return;
  const text = `Could not open '${name}': its name says ${packing}, its first bytes do not; rename it if it is an image as it is`;
  throw new Qcow2Error('REFUSED', text, { file: name });
}

/** The number of the open descriptor a name stands for. */
function descriptorOf(name: string): number | undefined {
  if (name === '-' || name === '/dev/stdin') return 0;
  const [, digits] = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/.exec(name) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

function openDescriptor(fd: number, name: string, signal: AbortSignal | undefined): Named {
  const shown = fd === 0 ? 'standard input' : `'${name}'`;
  const stat = statOf(fd, shown);
  if (stat.isDirectory()) throw refused(shown, 'it is a directory');
  if (tty.isatty(fd)) throw refused(shown, 'it is a terminal; redirect a file or a pipe to it');
  if (stat.isFile() && isAtStart(fd)) return { path: pathOf(fd, stat) };
  const isPipe = stat.isFIFO() || stat.isSocket();
  const source = isPipe
    ? pipePieces(fd)
    : fs.createReadStream('', { fd, highWaterMark: FILE_PIECE_BYTES });
  return { stream: new ByteStream(source, shown, signal) };
}

function statOf(fd: number, shown: string): fs.BigIntStats {
  try {
    return fs.fstatSync(fd, { bigint: true });
  } catch (cause) {
    throw ioError(cause, `Could not open ${shown}`, shown);
  }
}

/** A part of the file may have been read before; what is left is then a stream. */
function isAtStart(fd: number): boolean {
  try {
    return /^pos:\s*0$/m.test(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  } catch {
    return false;
  }
}

/** The path of an open file; where it has none any more, what leads to it all the same. */
function pathOf(fd: number, { dev, ino }: fs.BigIntStats): string {
  const link = `/proc/self/fd/${fd}`;
  try {
    const path = fs.readlinkSync(link);
    const found = fs.statSync(path, { bigint: true });
    if (found.dev === dev && found.ino === ino) return path;
  } catch {
    // It was removed, or is not to be reached.
  }
  return link;
}

function refused(shown: string, why: string): Qcow2Error {
  return new Qcow2Error('REFUSED', `Could not read ${shown}: ${why}`, { file: shown });
}
