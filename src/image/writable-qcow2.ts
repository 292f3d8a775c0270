import { AUTOCLEAR_RAW_DATA_FILE } from '../format/feature-bits.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { ActiveTables } from './active-tables.ts';
import { ClusterAllocator } from './allocator.ts';
import type { Chain } from './backing-chain.ts';
import { BitmapRecorder } from './bitmap-recorder.ts';
import { CompressedWriter } from './compressed-writer.ts';
import { FillReader } from './copy-on-write.ts';
import { DiskResizer } from './disk-resizer.ts';
import { GuestData } from './guest-data.ts';
import { GuestWriter, type MappingContext } from './guest-writer.ts';
import { HeaderState } from './header-state.ts';
import { L2Slice } from './l2-slice.ts';
import type { Metadata } from './metadata.ts';
import type { Preallocation } from './new-image.ts';
import { OverlapCheck } from './overlap-check.ts';
import type { Step } from './preallocation.ts';
import type { Qcow2Layer } from './qcow2-layer.ts';
import { SyncedFile } from './synced-file.ts';
import type { TableCache } from './table-cache.ts';
import type { WritableDisk } from './writable-disk.ts';
import { WriteBack } from './write-back.ts';
import { clearUnknownFeatures, requireWrite } from './write-gate.ts';
import { type ZeroRules, ZeroWriter } from './zero-writer.ts';

/** Bytes per unit of the table cache that is written back, at most: a page of most file systems. */
const UNIT_BYTES = 4096;

/**
 * A qcow2 image that is being changed. Everything that changes one shares these: the header as it is
 * now, the table cache, the allocator and the order in which tables reach the file. The owner
 * serialises all calls; nothing else may write the file meanwhile.
 */
export class WritableQcow2 implements WritableDisk {
  readonly header: HeaderState;
  readonly tables: TableCache;
  /** Number of the image file in the table cache. */
  readonly tableStorage: number;
  readonly allocator: ClusterAllocator;
  readonly writeBack: WriteBack;
  /** The active L1 table and what it leads to. */
  readonly active: ActiveTables;
  /** The persistent dirty bitmaps. */
  readonly bitmaps: BitmapRecorder;
  readonly #chain: Chain;
  readonly #context: MappingContext;
  readonly #fill: FillReader;
  readonly #writer: GuestWriter;
  readonly #zeros: ZeroWriter;
  readonly #streams: CompressedWriter;
  readonly #zeroRules: ZeroRules;
  readonly #resizer: DiskResizer;

  private constructor(
    chain: Chain,
    header: HeaderState,
    writeBack: WriteBack,
    bitmaps: BitmapRecorder,
    kernel: Kernel,
  ) {
    const layer = chain.layers[0]!.layer as Qcow2Layer;
    const { geometry } = layer;
    const { version, autoclearFeatures } = header.header;
    this.#chain = chain;
    this.bitmaps = bitmaps;
    this.header = header;
    this.writeBack = writeBack;
    this.tables = chain.tables;
    this.tableStorage = chain.tables.register(layer.storage);
    this.tables.allowWriting({
      storage: this.tableStorage,
      unitBytes: Math.min(geometry.clusterSize, UNIT_BYTES),
      makeRoom: () => writeBack.commitAll(),
    });
    const { tables, tableStorage } = this;
    this.allocator = new ClusterAllocator(tables, tableStorage, header, kernel, writeBack);
    this.active = new ActiveTables(
      tables,
      tableStorage,
      header,
      kernel,
      this.allocator,
      writeBack,
      () => chain.forget(),
    );
    const size = layer.virtualSize;
    const fill = new FillReader(chain, size);
    const dataFile = layer.dataStorage !== layer.storage;
    const context: MappingContext = {
      layer,
      geometry,
      size,
      active: this.active,
      allocator: this.allocator,
      writeBack,
      data: new GuestData(writeBack, fill),
      slice: new L2Slice(kernel.arena, { geometry, version, dataFile }),
    };
    this.#context = context;
    this.#fill = fill;
    this.#writer = new GuestWriter(context);
    this.#streams = new CompressedWriter(context);
    this.#zeroRules = {
      version,
      hasBacking: chain.layers.length > 1,
      isRawDataFile: (autoclearFeatures & AUTOCLEAR_RAW_DATA_FILE) !== 0n,
    };
    this.#zeros = new ZeroWriter(context, this.#zeroRules, this.#writer, fill);
    this.#resizer = new DiskResizer(context, {
      chain,
      header,
      fill,
      zeros: this.#zeros,
      bitmaps: bitmaps.resizable,
      flush: () => this.flush(),
    });
  }

  /**
   * Prepares an image for its first write: unknown autoclear bits go.
   * @throws Qcow2Error READ_ONLY: the data file's storage only reads; those of reading the metadata
   */
  static async open(chain: Chain, metadata: Metadata, kernel: Kernel): Promise<WritableQcow2> {
    const { storage, dataStorage } = chain.layers[0]!.layer;
    requireWrite(dataStorage);
    const file = new SyncedFile(storage);
    const dataFile = dataStorage === storage ? file : new SyncedFile(dataStorage);
    const header = new HeaderState(file, metadata);
    await clearUnknownFeatures(file, header);
    const overlap = await OverlapCheck.load(storage, header.metadata);
    const writeBack = new WriteBack(file, dataFile, chain.tables, header, overlap);
    const bitmaps = await BitmapRecorder.load(header, writeBack);
    return new WritableQcow2(chain, header, writeBack, bitmaps, kernel);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#begin(offset, bytes.length);
    await this.#writer.write(offset, bytes);
    await this.#end();
  }

  /**
   * Stores a whole cluster, at a guest offset, as a stream of the image's compression type that is shorter
   * than a cluster. Not for images with a data file.
   */
  async writeStream(offset: number, stream: Uint8Array): Promise<void> {
    const { clusterSize } = this.#context.geometry;
    this.#begin(offset, Math.min(clusterSize, this.#context.size - offset));
    await this.#streams.write(offset, stream);
    await this.#end();
  }

  async writeZeroes(offset: number, length: number, unmap: boolean): Promise<void> {
    await this.#begin(offset, length);
    await this.#zeros.writeZeroes(offset, length, unmap);
    await this.#end();
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#begin(offset, length);
    await this.#zeros.discard(offset, length);
    await this.#end();
  }

  async resize(size: number, preallocation: Preallocation, step: Step): Promise<void> {
    this.#requireSound();
    this.#chain.forget();
    await this.bitmaps.mark();
    await this.#resizer.resize(size, preallocation, step);
  }

  /** Everything written so far is durable when this settles; what was freed can be used again. */
  async flush(): Promise<void> {
    this.#requireSound();
    await this.writeBack.commit();
    await this.writeBack.barrier();
    await this.#releaseFreed();
  }

  /** Everything is in the file and durable: counters that may stay behind (lazy refcounts) as well. */
  async settle(): Promise<void> {
    await this.flush();
    await this.writeBack.commitAll();
    await this.writeBack.barrier();
  }

  /**
   * Takes references from clusters nothing on the disk leads to any more, and gives back the space of
   * those that become free.
   * @throws Qcow2Error BAD_ENTRY: there are not so many
   */
  async releaseClusters(offset: number, clusters: number, times = 1): Promise<void> {
    const { clusterSize } = this.header.metadata.geometry;
    this.#streams.forget();
    for (const free of await this.allocator.addReference(offset, clusters, -times))
      await this.#discard(free.offset, free.clusters * clusterSize);
  }

  /** From here on zeros are written so that they hide whatever backing file the image is going to get. */
  expectBacking(): void {
    this.#zeroRules.hasBacking = true;
  }

  /** Must be called when the active L1 table or the disk's size has changed, and snapshots with it. */
  tablesChanged(): void {
    const { header, virtualSize } = this.header.metadata;
    this.#context.layer.moved(
      { offset: header.l1TableOffset, entries: header.l1Size },
      virtualSize,
    );
    this.#context.size = virtualSize;
    this.#fill.size = virtualSize;
    this.active.forget();
    this.#chain.forget();
  }

  async finish(): Promise<void> {
    await this.flush();
    await this.bitmaps.store(this.allocator);
    await this.writeBack.finish();
  }

  #requireSound(): void {
    this.writeBack.file.requireSound();
    this.writeBack.dataFile.requireSound();
  }

  async #begin(offset: number, length: number): Promise<void> {
    this.#requireSound();
    await this.bitmaps.mark();
    await this.bitmaps.record(offset, length, this.allocator);
    this.#chain.forget();
  }

  async #end(): Promise<void> {
    if (this.allocator.isCrowded) await this.flush();
  }

  async #releaseFreed(): Promise<void> {
    if (!this.allocator.hasFreed) return;
    this.#streams.forget();
    await this.allocator.releaseFreed((offset, length) => this.#discard(offset, length));
  }

  /** Gives the space of host clusters back that nothing names. */
  async #discard(offset: number, length: number): Promise<void> {
    const { file } = this.writeBack;
    const end = Math.min(offset + length, file.size);
    if (end > offset) await file.punchHole(offset, end - offset);
  }
}
