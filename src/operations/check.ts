import { Qcow2Error } from '../errors.ts';
import { findExtension } from '../format/header-extensions.ts';
import { MAX_CHECK_CLUSTERS } from '../format/limits.ts';
import { PROBE_BYTES, probeFormat } from '../format/probe.ts';
import { type GivenSources, givenFiles } from '../image/given-files.ts';
import { Image } from '../image/image.ts';
import { readMetadata } from '../image/metadata.ts';
import type { OutsideResolver } from '../image/open-gate.ts';
import { createKernel, type Kernel, type KernelBackend } from '../kernel/kernel.ts';
import { type ImageSource, storageOf } from '../storage/source.ts';
import type { Storage } from '../storage/storage.ts';
import { addBitmaps } from './check-bitmaps.ts';
import { Comparison } from './check-compare.ts';
import { CheckedFile } from './check-file.ts';
import { type CheckFinding, Findings } from './check-findings.ts';
import { L1Tables } from './check-l1.ts';
import { L2Walker } from './check-l2.ts';
import { requireOutsideFiles } from './check-outside.ts';
import { checkSnapshots } from './check-snapshots.ts';
import { StoredCounts } from './check-stored.ts';
import type { OperationControl } from './control.ts';

export type { CheckFinding, FindingClass } from './check-findings.ts';

/** How to check. */
export interface CheckOptions extends OperationControl, GivenSources {
  /**
   * Opens backing and data files the image names. Absent: that of the open image, if it is one, or
   * else an image that names a file is refused.
   */
  resolver?: OutsideResolver;
  /** Findings listed at most; all are counted. Default 1000. */
  maxFindings?: number;
  /** How many L2 tables are checked, of all. */
  onProgress?: OperationControl['onProgress'];
  /** Which kernels to run; for tests and comparisons. */
  backend?: KernelBackend;
  /**
   * Holds the counters; default a new one, which goes when the check ends. It keeps the memory it was
   * made to take.
   * @internal
   */
  kernel?: Kernel;
}

/** What a check found (format section 18). Counts are in clusters unless they say otherwise. */
export interface CheckResult {
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  /** Clusters with a place in a file, of the active disk and its VM state. */
  readonly allocatedClusters: number;
  /** Of the allocated ones: not right behind the one before, or compressed. */
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
  /** References without counters, invalid entries: data is at risk. */
  readonly corruptions: number;
  /** Counted clusters that nothing refers to: space is wasted. */
  readonly leaks: number;
  /** What could not be checked. */
  readonly checkErrors: number;
  /**
   * Entries that are refused when read although the counters above do not see them: a data-file
   * offset in the wrong place, a zero flag in version 2, a compressed stream that starts past the
   * end of the file.
   */
  readonly refusals: number;
  /** Bytes: end of the last cluster that is counted or referenced. */
  readonly imageEndOffset: number;
  /** The first findings: structures, counters, bit 63, refusals. */
  readonly findings: readonly CheckFinding[];
  /** Findings that are counted but not listed. */
  readonly findingsOmitted: number;
}

const DEFAULT_MAX_FINDINGS = 1000;

/**
 * Checks the metadata of a qcow2 image without changing it or reading guest data. Of an open image
 * only the storage is used: what `Image.open` refuses as truncated can be checked by its storage.
 * Encrypted images need no key. The storage, and files given in place of named ones, stay open.
 * @throws Qcow2Error UNSUPPORTED (structure `image format`: it has no check), those of opening the
 *   image and the files it names, ABORTED, TOO_LARGE and MALFORMED where the check cannot go on
 * @example
 * import { check, FileStorage } from 'qcow2';
 *
 * const storage = new FileStorage('disk.qcow2');
 * const { corruptions, leaks, findings } = await check(storage);
 * console.log(corruptions === 0 ? 'sound' : findings[0]?.message, `${leaks} leaked clusters`);
 * storage.close();
 */
export async function check(
  source: Image | ImageSource,
  options: CheckOptions = {},
): Promise<CheckResult> {
  const image = source instanceof Image ? source : undefined;
  const storage = source instanceof Image ? source.storage : await storageOf(source);
  const format = image?.format ?? options.format;
  await requireQcow2(storage, format);
  const metadata = await readMetadata(storage, true);
  const resolver = options.resolver ?? image?.outside.resolver;
  const given = image?.outside.given ?? (await givenFiles(options));
  await requireOutsideFiles(storage, metadata, resolver, given);
  const backend = options.backend ?? image?.kernel.backend;
  const kernel = options.kernel ?? createKernel(backend === undefined ? {} : { backend });
  const findings = new Findings(options.maxFindings ?? DEFAULT_MAX_FINDINGS);
  const file = new CheckedFile(storage, metadata, kernel, findings, options.signal);
  if (file.clusters > MAX_CHECK_CLUSTERS) {
    const text = `the file has ${file.clusters} clusters; at most ${MAX_CHECK_CLUSTERS} can be checked`;
    throw new Qcow2Error('TOO_LARGE', text, { value: file.clusters });
  }
  return checkFile(file, options.onProgress);
}

async function checkFile(
  file: CheckedFile,
  onProgress: CheckOptions['onProgress'],
): Promise<CheckResult> {
  const { findings, geometry, metadata } = file;
  const { clusterSize } = geometry;
  const snapshots = await checkSnapshots(file);
  const stored = await StoredCounts.load(file);
  const walker = await countTrees(file, stored, snapshots.l1Tables, onProgress);
  await countStructures(file, snapshots.bytes);
  stored.addBlocks();
  const comparison = new Comparison(file, stored);
  await comparison.run();
  const { findings: listed, omitted } = findings.finish();
  return {
    totalClusters: Math.ceil(metadata.virtualSize / clusterSize),
    allocatedClusters: walker.allocated,
    fragmentedClusters: walker.fragmented,
    compressedClusters: walker.compressed,
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    checkErrors: findings.checkErrors,
    refusals: findings.refusals,
    imageEndOffset: (comparison.highest + 1) * clusterSize,
    findings: listed,
    findingsOmitted: omitted,
  };
}

/** Header, L1 tables, L2 tables and what they name. */
async function countTrees(
  file: CheckedFile,
  stored: StoredCounts,
  snapshots: readonly { offset: number; entries: number }[],
  onProgress: CheckOptions['onProgress'],
): Promise<L2Walker> {
  const { l1TableOffset, l1Size } = file.header;
  file.addRegion('header', 0, 0, file.geometry.clusterSize);
  const l1 = new L1Tables(file, stored);
  await l1.addActive({ offset: l1TableOffset, entries: l1Size });
  await l1.addSnapshots(snapshots);
  const walker = new L2Walker(file, stored);
  let done = 0;
  for (const uses of l1.uses()) {
    await walker.walk(uses);
    await onProgress?.(++done, l1.count);
  }
  return walker;
}

/** What else takes clusters; refcount blocks come last. */
async function countStructures(file: CheckedFile, snapshotTableBytes: number): Promise<void> {
  const { refcountTableOffset: table, refcountTableClusters, snapshotsOffset } = file.header;
  file.addRegion('snapshot table', snapshotsOffset, snapshotsOffset, snapshotTableBytes);
  const tableBytes = refcountTableClusters * file.geometry.clusterSize;
  file.addRegion('refcount table', table, table, tableBytes);
  const luks = findExtension(file.metadata.extensions, 'encryption-pointer')?.pointer;
  if (luks !== undefined) file.addRegion('LUKS area', luks.offset, luks.offset, luks.length);
  await addBitmaps(file);
}

async function requireQcow2(storage: Storage, format: 'qcow2' | 'raw' | undefined): Promise<void> {
  if (format === 'qcow2') return;
  const bytes = new Uint8Array(PROBE_BYTES);
  const found = format ?? probeFormat(bytes.subarray(0, await storage.read(0, bytes)));
  if (found === 'qcow2') return;
  const text = `'${storage.name}' is a ${found} image: this image format does not support checks`;
  throw new Qcow2Error('UNSUPPORTED', text, { structure: 'image format', value: found });
}
