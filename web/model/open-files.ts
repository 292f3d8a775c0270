import { isQcow2Error, Qcow2Error } from '../../src/errors.ts';
import type { BackingSource, GivenSources } from '../../src/image/given-files.ts';
import { probe } from '../../src/image/identify.ts';
import { Image } from '../../src/image/image.ts';
import { type Metadata, readMetadata } from '../../src/image/metadata.ts';
import { type OutsideFile, refusal, requirePlainPath } from '../../src/image/open-gate.ts';
import { BlobStorage } from '../../src/storage/blob.ts';
import { couldNotOpen, isHttpUrl } from '../../src/storage/http-url.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** One file of the chain, as the page shows it. */
export interface ChainFile {
  readonly role: 'image' | 'backing file' | 'data file';
  /** How many files are above it. */
  readonly depth: number;
  /** The name it is known by: of files nobody gave, as the image records it. */
  readonly name: string;
  /** Which of the given files it is; absent: none was given for it. */
  readonly given?: number;
  /** Why it is not read; absent: it is. */
  readonly refusal?: string;
  /** A file may be given for it: which of the given files names it. */
  readonly namedBy?: number;
  /** Absent for data files, and where nobody has looked. */
  readonly format?: string;
  readonly virtualSize?: number;
  readonly fileSize?: number;
}

/** A file that was given. */
export interface GivenFile {
  readonly storage: Storage;
  /** The name an image has for it, if it was given for just that; else it is found by its own. */
  readonly as?: string | undefined;
}

/** An image that was opened, with what was given of the files it names. */
export interface OpenedFiles {
  readonly image: Image;
  readonly chain: readonly ChainFile[];
  /** Names of given files that are no part of it. */
  readonly unused: readonly string[];
}

/** A file a person picked; loops are found by it. */
export class PickedFile extends BlobStorage {
  readonly identity: string;

  constructor(file: File, index: number) {
    super(file);
    this.identity = `picked ${index}`;
  }
}

/** Stands for a file that was not given: it can be mapped, and reading from it is an error. */
export class MissingFile implements Storage {
  readonly name: string;
  readonly size: number;
  readonly #error: Qcow2Error;

  constructor(name: string, size: number, error: Qcow2Error) {
    this.name = name;
    this.size = size;
    this.#error = error;
  }

  read(): never {
    throw this.#error;
  }

  close(): void {}
}

/** A given file and what its first cluster says; undefined for a raw one. */
interface Known extends GivenFile {
  readonly index: number;
  readonly metadata: Metadata | undefined;
  /** Why it cannot be opened as what it looks like. */
  readonly failure?: Qcow2Error;
}

/**
 * Opens the image among some files: the one that no other names. The files it names are those given for
 * them, or are found by the last part of their names, and nowhere else.
 * @throws Qcow2Error those of opening it
 */
export async function openFiles(files: readonly GivenFile[]): Promise<OpenedFiles> {
  const known = await Promise.all(files.map(identify));
  const top = topOf(known);
  if (top.failure !== undefined) throw couldNotOpen(top.failure, top.storage.name ?? '');
  const builder = new ChainBuilder(known);
  const given = builder.descend(top, 'image', 0);
  const image = await Image.open(top.storage, given);
  const unused = known.filter((file) => !builder.used.has(file));
  return { image, chain: builder.chain, unused: unused.map(({ storage }) => storage.name ?? '') };
}

async function identify({ storage, as }: GivenFile, index: number): Promise<Known> {
  const file = { storage, as, index };
  try {
    const isQcow2 = (await probe(storage)) === 'qcow2';
    return { ...file, metadata: isQcow2 ? await readMetadata(storage) : undefined };
  } catch (error) {
    if (isQcow2Error(error)) return { ...file, metadata: undefined, failure: error };
    throw error;
  }
}

/** The name a file itself has, without its folders; of a URL as a person reads it. */
export function ownName({ name = '' }: { readonly name?: string }): string {
  if (!isHttpUrl(name)) return lastPart(name);
  const { pathname } = new URL(name);
  try {
    return lastPart(decodeURIComponent(pathname));
  } catch {
    return lastPart(pathname);
  }
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** The file that no other names; of several, one that names others, or else one that is an image. */
function topOf(known: readonly Known[]): Known {
  const named = new Set<string>();
  for (const { metadata } of known)
    for (const name of [metadata?.backingFile, metadata?.dataFile])
      if (name !== undefined) named.add(lastPart(name.text));
  const tops = known.filter(({ storage, as }) => as === undefined && !named.has(ownName(storage)));
  const naming = tops.find(({ metadata }) => metadata?.backingFile ?? metadata?.dataFile);
  const image = tops.find(({ metadata, failure }) => metadata ?? failure);
  const top = naming ?? image ?? tops[0] ?? known[0];
  if (top !== undefined) return top;
  throw new Qcow2Error('INVALID_ARGUMENT', 'no file was given: choose a disk image');
}

class ChainBuilder {
  readonly chain: ChainFile[] = [];
  readonly used = new Set<Known>();
  readonly #known: readonly Known[];

  constructor(known: readonly Known[]) {
    this.#known = known;
  }

  /** Adds a file and what it names; returns what to open it with. */
  descend(file: Known, role: 'image' | 'backing file', depth: number): GivenSources {
    const { storage, metadata } = file;
    this.used.add(file);
    this.chain.push({
      role,
      depth,
      name: storage.name ?? '',
      given: file.index,
      format: metadata === undefined ? 'raw' : 'qcow2',
      virtualSize: metadata?.virtualSize ?? storage.size,
      fileSize: storage.size,
    });
    if (metadata === undefined) return { format: 'raw' };
    return {
      format: 'qcow2',
      ...this.#dataFile(file, metadata, depth),
      ...this.#backing(file, metadata, depth + 1),
    };
  }

  #dataFile(
    { storage, index }: Known,
    { hasDataFile, dataFile, virtualSize }: Metadata,
    depth: number,
  ): GivenSources {
    if (!hasDataFile || dataFile === undefined) return {};
    const file = { role: 'data file', name: dataFile.text, namedBy: storage.name ?? '' } as const;
    const { found, error, isWanted } = this.#find(file);
    if (found !== undefined) {
      this.used.add(found);
      const { size: fileSize, name = '' } = found.storage;
      this.chain.push({ role: 'data file', depth, name, fileSize, given: found.index });
      return { dataFile: found.storage };
    }
    const wanted = isWanted ? { namedBy: index } : {};
    const refusal = error.message;
    this.chain.push({ role: 'data file', depth, name: file.name, refusal, ...wanted });
    return { dataFile: new MissingFile(file.name, virtualSize, error) };
  }

  #backing({ storage, index }: Known, metadata: Metadata, depth: number): GivenSources {
    const { backingFile, backingFormat, virtualSize } = metadata;
    if (backingFile === undefined) return {};
    const name = backingFile.text;
    const file = { role: 'backing file', name, namedBy: storage.name ?? '' } as const;
    const { found, error, isWanted } = this.#find(file, backingFormat);
    if (error !== undefined) {
      const format = backingFormat === undefined ? {} : { format: backingFormat };
      const wanted = isWanted ? { namedBy: index } : {};
      const refusal = error.message;
      this.chain.push({ role: 'backing file', depth, name, refusal, ...format, ...wanted });
      const source = new MissingFile(name, virtualSize, error);
      return { backingFile: { source, format: 'raw' } };
    }
    this.used.add(found);
    // What the image records decides how the file is read, not what it looks like.
    const taken = backingFormat === 'raw' ? { ...found, metadata: undefined } : found;
    const { format: probed, ...below } = this.descend(taken, 'backing file', depth);
    const source: BackingSource = { source: found.storage, ...below };
    if (backingFormat === 'raw' || backingFormat === 'qcow2') source.format = backingFormat;
    // Another recorded format is for the library to refuse.
    else if (backingFormat === undefined && probed !== undefined) source.format = probed;
    return { backingFile: source };
  }

  /** The file that was given for a name, or why there is none, and whether one may be given. */
  #find(file: OutsideFile, recorded?: string): Found {
    try {
      requirePlainPath(file);
    } catch (error) {
      if (isQcow2Error(error)) return { error, isWanted: false };
      throw error;
    }
    const found =
      this.#known.find(({ as }) => as === file.name) ??
      this.#known.find(
        ({ as, storage }) => as === undefined && ownName(storage) === lastPart(file.name),
      );
    const refused = (hint: string): Found => ({ error: refusal(file, hint), isWanted: true });
    if (found === undefined) return refused('open it together with the image');
    if (this.used.has(found)) return refused('it is already part of the chain');
    if (file.role === 'data file' || recorded === 'raw') return { found };
    if (found.failure !== undefined) return { error: found.failure, isWanted: true };
    // The guest writes the bytes that are probed: it must not be able to make up a backing file.
    const namesMore = found.metadata?.backingFile !== undefined || found.metadata?.hasDataFile;
    if (recorded === undefined && namesMore)
      return refused('its format is not recorded and it names a further file');
    return { found };
  }
}

/** What was found for a name. */
type Found =
  | { found: Known; error?: undefined; isWanted?: undefined }
  | { found?: undefined; error: Qcow2Error; isWanted: boolean };
