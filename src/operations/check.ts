import { Qcow2Error } from '../errors.ts';
import { PROBE_BYTES, probeFormat } from '../format/probe.ts';
import type { CheckFinding } from '../image/check-findings.ts';
import { CheckPass } from '../image/check-pass.ts';
import { type GivenSources, givenFiles } from '../image/given-files.ts';
import { Image } from '../image/image.ts';
import { readMetadata } from '../image/metadata.ts';
import type { OutsideResolver } from '../image/open-gate.ts';
import { createKernel, type Kernel, type KernelBackend } from '../kernel/kernel.ts';
import { type ImageSource, storageOf } from '../storage/source.ts';
import type { Storage } from '../storage/storage.ts';
import { requireOutsideFiles } from './check-outside.ts';
import { type OperationControl, throwIfAborted } from './control.ts';

export type { CheckFinding, FindingClass } from '../image/check-findings.ts';

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

/** Findings listed, unless more or fewer are asked for. */
export const DEFAULT_MAX_FINDINGS = 1000;

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
  const { signal, onProgress } = options;
  const pass = await CheckPass.run(storage, metadata, {
    kernel,
    maxFindings: options.maxFindings ?? DEFAULT_MAX_FINDINGS,
    step: () => throwIfAborted(signal, 'the check'),
    onProgress,
  });
  return resultOf(pass);
}

/** What a way through an image found; findings about bit 63 can be left out. */
export function resultOf(
  { file, findings, walker, comparison }: CheckPass,
  withCopied = true,
): CheckResult {
  const { clusterSize } = file.geometry;
  const { findings: listed, omitted } = findings.finish(withCopied);
  return {
    totalClusters: Math.ceil(file.metadata.virtualSize / clusterSize),
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

/**
 * Refuses what is no qcow2 image.
 * @throws Qcow2Error UNSUPPORTED, of the structure `image format`
 */
export async function requireQcow2(
  storage: Storage,
  format: 'qcow2' | 'raw' | undefined,
): Promise<void> {
  if (format === 'qcow2') return;
  const bytes = new Uint8Array(PROBE_BYTES);
  const found = format ?? probeFormat(bytes.subarray(0, await storage.read(0, bytes)));
  if (found === 'qcow2') return;
  const text = `'${storage.name}' is a ${found} image: this image format does not support checks`;
  throw new Qcow2Error('UNSUPPORTED', text, { structure: 'image format', value: found });
}
