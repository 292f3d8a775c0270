import type { Codec } from '../codecs/codec.ts';
import { Qcow2Error } from '../errors.ts';
import { CRYPT_NONE } from '../format/header.ts';
import { MAX_CHAIN_DEPTH } from '../format/limits.ts';
import { PROBE_BYTES, probeFormat } from '../format/probe.ts';
import { type Snapshot, validateSnapshotL1 } from '../format/snapshot-table.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { RunReader } from '../kernel/run-reader.ts';
import type { Storage } from '../storage/storage.ts';
import { type Metadata, readMetadata } from './metadata.ts';
import { type OutsideFile, type OutsideResolver, openOutside } from './open-gate.ts';
import { isUnallocated, Plan } from './plan.ts';
import { type LayerContext, Qcow2Layer } from './qcow2-layer.ts';
import { RawLayer } from './raw-layer.ts';
import { type ReadableLayer, Reader } from './reader.ts';
import { requireUnsharedTables } from './shared-tables.ts';
import { TableCache } from './table-cache.ts';

/** Run records decoded at once. */
const RUN_CAPACITY = 8192;

/** Files the caller supplies, in place of those an image names; closed with the image. */
export interface GivenFiles {
  /** What the image is. Absent: what its overlay records, or probed by its first bytes. */
  format?: 'qcow2' | 'raw';
  /** Its external data file. */
  dataFile?: Storage;
  /** Its backing file, and what lies below that. */
  backingFile?: GivenFiles & { storage: Storage };
}

/** What opening a chain needs from outside. */
export interface ChainOptions {
  /** Asked before the resolver. */
  given: GivenFiles;
  resolver: OutsideResolver | undefined;
  loadCodec: (type: number) => Promise<Codec>;
  /** Bytes of memory for tables; absent: enough to read. */
  tableBytes?: number | undefined;
  /** Whether the image, and with it its data file, is to be written. */
  writable: boolean;
  /** Files of the chain to open, from the image itself on; absent: all. */
  layers?: number | undefined;
}

/** An image and everything below it, top first, ready to be mapped and read. */
export class Chain {
  readonly layers: readonly ReadableLayer[];
  readonly #layers: ReadableLayer[];
  /** The tables of all layers. */
  readonly tables: TableCache;
  readonly #reader: Reader;
  readonly #opened: readonly Storage[];
  #spare = new Plan();

  /** @param opened storages the chain opened itself and closes again */
  constructor(
    layers: ReadableLayer[],
    opened: readonly Storage[],
    tables: TableCache,
    kernel: Kernel,
  ) {
    this.#layers = layers;
    this.layers = layers;
    this.tables = tables;
    this.#opened = opened;
    this.#reader = new Reader(layers, kernel);
  }

  /**
   * Replaces `plan` with the runs of `[start, end)` and returns where they end: `end`, or earlier
   * when there are too many for one plan. What no layer holds is unallocated and marked with the
   * deepest layer that reaches so far.
   * @param top index of the layer whose disk is mapped; what lies above is left out
   * @param bottom index behind the last layer that is asked
   */
  async map(
    start: number,
    end: number,
    plan: Plan,
    top = 0,
    bottom: number = this.layers.length,
  ): Promise<number> {
    plan.clear();
    let reached = await this.layers[top]!.layer.mapRange(start, end, top, plan);
    for (let depth = top + 1; depth < bottom && hasUnallocated(plan); depth++)
      reached = await this.#mapBelow(depth, plan);
    return reached;
  }

  /** Fills `into` (guest offset `base` on) as the plan says; see `Reader.execute`. */
  execute(plan: Plan, base: number, into: Uint8Array): Promise<void> {
    return this.#reader.execute(plan, base, into);
  }

  /** Forgets what it remembers of the first layer beside its tables: it is about to change. */
  forget(): void {
    this.layers[0]!.layer.forget();
    this.#reader.forget();
  }

  /**
   * Goes on by another header of the first file, a qcow2 image whose tables are all in the file.
   * @param codec of the compression type it names
   */
  renew({ header, virtualSize }: Metadata, codec: Codec): void {
    const first = this.#layers[0]!;
    const l1 = { offset: header.l1TableOffset, entries: header.l1Size };
    const layer = (first.layer as Qcow2Layer).renewed(header, { l1, virtualSize });
    this.#layers[0] = first.codec === undefined ? { layer } : { layer, codec };
    this.tables.clear();
    this.#reader.forget();
  }

  async close(): Promise<void> {
    for (const storage of this.#opened) await storage.close();
  }

  /** Answers the unallocated runs that reached layer `depth - 1` from layer `depth`. */
  async #mapBelow(depth: number, plan: Plan): Promise<number> {
    const { layer } = this.layers[depth]!;
    const above = this.#spare;
    above.copyFrom(plan);
    plan.clear();
    let reached = 0;
    for (let i = 0; i < above.count && !plan.isFull; i++) {
      const guest = above.guest[i]!;
      const end = guest + above.length[i]!;
      const asks = isUnallocated(above.kind[i]!) && above.layer[i] === depth - 1;
      const split = asks ? Math.max(guest, Math.min(end, layer.virtualSize)) : guest;
      reached = end;
      if (split > guest) reached = await layer.mapRange(guest, split, depth, plan);
      if (reached < split) break;
      if (split < end) plan.pushFrom(above, i, split);
      reached = end;
    }
    return reached;
  }
}

function hasUnallocated(plan: Plan): boolean {
  for (let i = 0; i < plan.count; i++) if (isUnallocated(plan.kind[i]!)) return true;
  return false;
}

/**
 * Opens what lies below an image, file by file, asking the gate for each.
 * @throws Qcow2Error EXTERNAL_REFUSED, REFUSED (loop), TOO_LARGE (depth), NEED_KEY, and those of
 *   opening each file; what was opened is closed again
 */
export async function openChain(
  storage: Storage,
  metadata: Metadata | undefined,
  snapshot: Snapshot | undefined,
  kernel: Kernel,
  options: ChainOptions,
): Promise<Chain> {
  const builder = new ChainBuilder(kernel, options);
  try {
    builder.enter(storage);
    let below = await builder.add(storage, metadata, options.given, snapshot);
    const { layers = Number.POSITIVE_INFINITY } = options;
    while (below && builder.layers.length < layers) {
      const { file, given, format } = below;
      try {
        const opened = await builder.open(file, given?.storage);
        const trusted = given !== undefined;
        below = await builder.add(opened, await identify(opened, format, trusted), given ?? {});
      } catch (error) {
        throw inFile(error, file);
      }
    }
    return new Chain(builder.layers, builder.opened, builder.tables, kernel);
  } catch (error) {
    for (const opened of builder.opened) await opened.close();
    throw error;
  }
}

/** A backing file still to be opened. */
interface Below {
  file: OutsideFile;
  /** Supplied by the caller, who may also know the format. */
  given: GivenFiles['backingFile'];
  format: string | undefined;
}

class ChainBuilder {
  readonly layers: ReadableLayer[] = [];
  readonly opened: Storage[] = [];
  readonly tables: TableCache;
  readonly #options: ChainOptions;
  readonly #context: LayerContext;
  readonly #seen = new Set<string>();

  constructor(kernel: Kernel, options: ChainOptions) {
    this.#options = options;
    this.tables = new TableCache(kernel.arena, options.tableBytes);
    this.#context = {
      kernel,
      tables: this.tables,
      runs: new RunReader(kernel.arena, RUN_CAPACITY),
    };
  }

  /** Finds loops by identity, and chains that are too long. */
  enter(storage: Storage): void {
    const { identity } = storage;
    if (identity !== undefined && this.#seen.has(identity)) {
      const text = `'${storage.name}' is already part of the chain; an image must not refer back to itself`;
      throw new Qcow2Error('REFUSED', text, { structure: 'backing chain' });
    }
    if (identity !== undefined) this.#seen.add(identity);
    if (this.layers.length < MAX_CHAIN_DEPTH) return;
    const text = `the backing chain is deeper than ${MAX_CHAIN_DEPTH} images`;
    throw new Qcow2Error('TOO_LARGE', text, { structure: 'backing chain' });
  }

  async open(file: OutsideFile, given?: Storage): Promise<Storage> {
    const storage = given ?? (await openOutside(file, this.#options.resolver));
    this.opened.push(storage);
    this.enter(storage);
    return storage;
  }

  /** Adds a layer; returns the backing file it names. */
  async add(
    storage: Storage,
    metadata: Metadata | undefined,
    given: GivenFiles,
    snapshot?: Snapshot,
  ): Promise<Below | undefined> {
    if (metadata === undefined) {
      this.layers.push({ layer: new RawLayer(storage) });
      return undefined;
    }
    const { header } = metadata;
    requireNoKey(metadata, storage);
    const data = metadata.hasDataFile
      ? await this.#openDataFile(storage, metadata, given)
      : storage;
    if (snapshot) validateSnapshotL1(snapshot, metadata.geometry, storage.size);
    const l1 = snapshot
      ? { offset: snapshot.l1TableOffset, entries: snapshot.l1Size }
      : { offset: header.l1TableOffset, entries: header.l1Size };
    const virtualSize = snapshot?.diskSize ?? metadata.virtualSize;
    const view = { l1, virtualSize };
    const layer = new Qcow2Layer(header, storage, data, view, this.#context);
    await requireUnsharedTables(storage, l1, metadata.geometry);
    if (metadata.hasDataFile) this.layers.push({ layer });
    else this.layers.push({ layer, codec: await this.#codec(header.compressionType) });
    const below = given.backingFile;
    if (metadata.backingFile === undefined && below === undefined) return undefined;
    const name = below?.storage.name ?? metadata.backingFile?.text ?? '';
    const file = { role: 'backing file', name, namedBy: storage.name ?? '' } as const;
    return { file, given: below, format: below?.format ?? metadata.backingFormat };
  }

  async #openDataFile(
    storage: Storage,
    metadata: Metadata,
    { dataFile }: GivenFiles,
  ): Promise<Storage> {
    if (metadata.dataFile === undefined && dataFile === undefined) {
      const text = `'${storage.name}' keeps its data in an external file but records no name for it; supply the file`;
      throw new Qcow2Error('MALFORMED', text, { structure: 'data file name' });
    }
    const namedBy = storage.name ?? '';
    const name = dataFile?.name ?? metadata.dataFile?.text ?? '';
    // Only the first image of a chain is written.
    const isWritten = this.#options.writable && this.layers.length === 0;
    const file: OutsideFile = { role: 'data file', name, namedBy };
    if (isWritten) file.writable = true;
    try {
      return await this.open(file, dataFile);
    } catch (error) {
      throw inFile(error, file);
    }
  }

  /** A codec that is not to be had only matters once a compressed cluster is met. */
  async #codec(type: number): Promise<Codec> {
    try {
      return await this.#options.loadCodec(type);
    } catch (error) {
      const fail = (): never => {
        throw error;
      };
      return { type, name: 'zstd', decompress: fail, compress: fail };
    }
  }
}

function requireNoKey({ header }: Metadata, storage: Storage): void {
  if (header.cryptMethod === CRYPT_NONE) return;
  const method = header.cryptMethod === 2 ? 'LUKS' : 'AES';
  const text = `'${storage.name}' is encrypted (${method}); reading encrypted data is not supported yet`;
  throw new Qcow2Error('NEED_KEY', text, { structure: 'header crypt_method', offset: 32 });
}

/** Metadata of a backing file, or undefined for a raw one. Only a trusted one is probed freely. */
async function identify(
  storage: Storage,
  format: string | undefined,
  trusted: boolean,
): Promise<Metadata | undefined> {
  if (format === 'raw') return undefined;
  if (format === 'qcow2') return readMetadata(storage);
  if (format !== undefined) {
    const text = `its recorded format '${format}' is not supported; only qcow2 and raw are`;
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'backing file format' });
  }
  const bytes = new Uint8Array(PROBE_BYTES);
  const n = await storage.read(0, bytes);
  const probed = probeFormat(bytes.subarray(0, n));
  if (probed === 'raw') return undefined;
  if (probed !== 'qcow2') {
    const text = `it is a ${probed} image; only qcow2 and raw are supported`;
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'backing file' });
  }
  const metadata = await readMetadata(storage);
  if (!trusted && (metadata.backingFile !== undefined || metadata.hasDataFile)) {
    const text =
      'no backing format is recorded, and the file, taken for qcow2, names a further file; record the format (rebase -u -F)';
    throw new Qcow2Error('EXTERNAL_REFUSED', text, { structure: 'backing file format' });
  }
  return metadata;
}

/** Says in which file of the chain an error arose. */
function inFile(error: unknown, file: OutsideFile): unknown {
  if (!(error instanceof Qcow2Error) || error.code === 'EXTERNAL_REFUSED') return error;
  const message = `${file.role} '${file.name}': ${error.message}`;
  return new Qcow2Error(error.code, message, error.details, { cause: error });
}
