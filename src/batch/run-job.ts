import { Qcow2Error } from '../errors.ts';
import { createKernel, type Kernel } from '../kernel/kernel.ts';
import type { ChecksumOptions } from '../node/checksum.ts';
import type { ChecksumAlgorithm } from '../node/disk-digest.ts';
import { type NamedFiles, type OpenImageOptions, openChain } from '../node/open-image.ts';
import { check } from '../operations/check.ts';
import type { HttpOptions } from '../storage/http.ts';
import { shownName } from '../storage/http-url.ts';
import { compareFiles } from '../workers/compare-files.ts';
import { convertFile, type WrittenTarget } from '../workers/convert-file.ts';
import { openSource } from '../workers/input-files.ts';
import type { InputFile, InputFiles } from '../workers/messages.ts';
import type { ThreadOptions } from '../workers/worker-pool.ts';
import type { JobChecksum, JobPhase, TargetFigures } from './events.ts';
import { type FileIdentity, fileIdentity } from './file-identity.ts';
import { filesRead, settledInputs, spillOf } from './job-inputs.ts';
import { type BatchJob, besideTarget, filesWritten } from './jobs.ts';
import { allocatedBytes } from './schedule.ts';

/** How far a job is: of a phase, which is one of several. See `JobProgress`. */
export interface PhaseProgress {
  phase: JobPhase;
  step: number;
  steps: number;
  done: number;
  total: number;
  written: number;
}

/** What running a job obeys and reports to. */
export interface RunJobOptions extends ThreadOptions {
  signal?: AbortSignal | undefined;
  /** Called between steps; the job waits for what it returns, and fails with what it throws. */
  onProgress?: ((progress: PhaseProgress) => void | Promise<void>) | undefined;
  /** How http and https URLs are read. */
  http?: Omit<HttpOptions, 'signal' | 'transport'> | undefined;
  /** Wait until the target is on the disk; default true. */
  durable?: boolean | undefined;
  /** Part of the names of files being written, by which leftovers of a killed run are told apart. */
  partialTag?: string | undefined;
  /** Note which files were read, backing files too, and what they were; default false. */
  identify?: boolean | undefined;
  /**
   * Called with the target when it is whole and all that was asked for is well, before it gets its name.
   * What it throws leaves nothing of it. A queue asks here whether the job is still that of its worker.
   */
  beforePublish?: ((written: WrittenTarget) => void | Promise<void>) | undefined;
  /** Serve nothing else meanwhile; their memory is taken back at the end. Default new ones. */
  kernels?: JobKernels | undefined;
}

/** The kernels of jobs that run one after the other: memory that was used before is there at once. */
export class JobKernels {
  readonly converting = createKernel();
  #reading: Kernel | undefined;

  /** For what reads the target while its conversion still has its images open. */
  get reading(): Kernel {
    this.#reading ??= createKernel();
    return this.#reading;
  }

  reset(): void {
    this.converting.reset();
    this.#reading?.reset();
  }
}

/** What a job that succeeded has made. */
export interface JobResult extends TargetFigures {
  /** Seconds of each phase. */
  phases: Partial<Record<JobPhase, number>>;
  /** With `identify`: every file that was read, as it was before. */
  sources: FileIdentity[];
  /** The target, and its external data file if it has one. */
  targets: FileIdentity[];
}

/**
 * Does one job from its first check to its last: checks the source, converts it and takes the digest of
 * what it reads, reads the target again. The target gets its name when all of that is well. Whoever distributes jobs, the
 * threads of `runBatch` or a queue over many machines, calls this for each.
 * @throws Qcow2Error of converting (see `convertFile`); MALFORMED: the source is corrupt; BAD_DATA: the
 *   target does not hold what the source does, or the disk has another digest than it must
 * @example
 * import { runJob } from 'qcow2';
 *
 * const { bytesVirtual, checksum } = await runJob({
 *   inputs: [{ path: 'disk.qcow2' }],
 *   target: 'disk.raw',
 *   targetFormat: 'raw',
 *   verify: true,
 *   checksum: 'sha256',
 * });
 * console.log(bytesVirtual, checksum?.digest);
 */
export async function runJob(job: BatchJob, options: RunJobOptions = {}): Promise<JobResult> {
  const { kernels = new JobKernels() } = options;
  try {
    return await new JobRun(job, options, kernels).run();
  } finally {
    kernels.reset();
  }
}

class JobRun {
  readonly #job: BatchJob;
  readonly #options: RunJobOptions;
  readonly #kernels: JobKernels;
  readonly #steps: readonly JobPhase[];
  /** Of the job, kept if they come packed. */
  #inputs: readonly InputFile[];
  #isStream = false;
  readonly #phases: JobResult['phases'] = {};
  #bytesVirtual = 0;
  #written = 0;
  #checksum: JobChecksum | undefined;

  constructor(job: BatchJob, options: RunJobOptions, kernels: JobKernels) {
    this.#job = job;
    this.#inputs = job.inputs;
    this.#options = options;
    this.#kernels = kernels;
    const wanted = { check: job.checkSource, convert: true, verify: job.verify };
    this.#steps = (['check', 'convert', 'verify'] as const).filter((phase) => wanted[phase]);
  }

  async run(): Promise<JobResult> {
    const report = this.#progressOf(this.#steps[0]!);
    const onKept = (done: number) => report(done, Number.POSITIVE_INFINITY);
    const { inputs, isStream, close } = await settledInputs(this.#job, {
      ...this.#options,
      onKept,
    });
    this.#isStream = isStream;
    try {
      return await this.#runOn(inputs);
    } finally {
      close();
    }
  }

  async #runOn(inputs: readonly InputFile[]): Promise<JobResult> {
    this.#inputs = inputs;
    const { identify, signal } = this.#options;
    const { converting } = this.#kernels;
    const sources = identify
      ? await filesRead(this.#files, this.#isStream, converting, signal)
      : [];
    converting.reset();
    const bytesSource = allocatedBytes(inputs.map(({ path }) => path));
    if (this.#job.checkSource) await this.#timed('check', () => this.#checkSource());
    await this.#convert();
    const files = filesWritten(this.#job);
    return {
      bytesVirtual: this.#bytesVirtual,
      bytesSource,
      bytesWritten: allocatedBytes(files),
      phases: this.#phases,
      sources,
      targets: identify ? files.map(fileIdentity) : [],
      ...(this.#checksum && { checksum: this.#checksum }),
    };
  }

  /** Of the digest of the disk as it is read: asked for, or all that a stream leaves to verify by. */
  get #algorithm(): ChecksumAlgorithm | undefined {
    const { checksum, verify } = this.#job;
    return checksum ?? (verify && this.#isStream ? 'sha256-sparse' : undefined);
  }

  /** The inputs, and how they are opened. */
  get #files(): InputFiles {
    return { ...this.#job, inputs: this.#inputs, http: this.#options.http };
  }

  async #timed<T>(phase: JobPhase, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    try {
      return await work();
    } finally {
      const seconds = (performance.now() - began) / 1000;
      // The target is read while its conversion has not ended.
      const inner = phase === 'convert' ? (this.#phases.verify ?? 0) : 0;
      this.#phases[phase] = Math.round(1000 * (seconds - inner)) / 1000;
    }
  }

  #progressOf(phase: JobPhase) {
    const step = this.#steps.indexOf(phase);
    return (done: number, total: number): void | Promise<void> =>
      this.#options.onProgress?.({
        phase,
        step,
        steps: this.#steps.length,
        done,
        total,
        written: this.#written,
      });
  }

  async #checkSource(): Promise<void> {
    const { inputs, allowExternal, share, http } = this.#files;
    if (this.#isStream) return; // a raw disk
    const onProgress = this.#progressOf('check');
    for (const { path, snapshot: _, ...named } of inputs) {
      const options = { ...named, allowExternal, share, http };
      const found = await this.#corruptions(path, options, this.#kernels.converting, onProgress);
      this.#kernels.converting.reset();
      if (found !== null)
        throw new Qcow2Error('MALFORMED', `source '${shownName(path)}' is corrupt: ${found}`, {
          file: shownName(path),
        });
    }
  }

  /** What is wrong with a qcow2 image; null if nothing, or if it is of another format. */
  async #corruptions(
    path: string,
    options: OpenImageOptions,
    kernel: Kernel,
    onProgress?: (done: number, total: number) => void | Promise<void>,
  ): Promise<string | null> {
    const { signal } = this.#options;
    const image = await openChain(path, { ...options, kernel, signal, sync: true });
    try {
      if (image.format !== 'qcow2') return null;
      const result = await check(image, { kernel, signal, onProgress, maxFindings: 1 });
      const { corruptions, refusals, checkErrors, findings } = result;
      const errors = corruptions + refusals + checkErrors;
      if (errors === 0) return null;
      const first = findings[0] === undefined ? '' : `, the first: ${findings[0].message}`;
      return `${errors} errors were found on the image${first}`;
    } finally {
      await image.close();
    }
  }

  async #convert(): Promise<void> {
    const { checkSource: _, verify, digest: __, ...job } = this.#job;
    const { threads, blocking, durable, partialTag, signal, http, beforePublish } = this.#options;
    const report = this.#progressOf('convert');
    await this.#timed('convert', () =>
      convertFile({
        ...job,
        inputs: this.#inputs,
        spill: spillOf(job.target),
        checksum: this.#algorithm,
        ...(durable !== undefined && { durable }),
        threads,
        blocking,
        partialTag,
        signal,
        http,
        kernel: this.#kernels.converting,
        onProgress: (done, total, written) => {
          this.#bytesVirtual = total;
          this.#written = written;
          return report(done, total);
        },
        beforePublish: async (written) => {
          this.#requireDigest(written);
          if (verify) await this.#timed('verify', () => this.#verify(written));
          await beforePublish?.(written);
        },
      }),
    );
  }

  /** Notes what the digest of the disk is, and makes sure that it is the one expected. */
  #requireDigest({ digest }: WrittenTarget): void {
    const { checksum: algorithm, digest: expected, target } = this.#job;
    if (algorithm === undefined || digest === undefined) return;
    if (expected !== undefined && expected.toLowerCase() !== digest) {
      const text = `target '${target}' was not made: the ${algorithm} of the source's disk is ${digest}, not ${expected}`;
      throw new Qcow2Error('BAD_DATA', text, { file: target });
    }
    this.#checksum = { algorithm, digest };
  }

  async #verify(written: WrittenTarget): Promise<void> {
    const problem = await (this.#isStream
      ? this.#differenceFromStream(written)
      : this.#inputs.length === 1
        ? this.#difference(written)
        : this.#differenceOfDigests(written));
    const { target } = this.#job;
    if (problem !== null) throw badTarget(target, problem);
    if (written.format !== 'qcow2') return;
    const { reading } = this.#kernels;
    reading.reset();
    const found = await this.#corruptions(written.path, this.#targetFiles(written), reading);
    if (found !== null) throw badTarget(target, `it is corrupt: ${found}`);
  }

  async #difference(written: WrittenTarget): Promise<string | null> {
    const { snapshot, share } = this.#job;
    const { threads, blocking, signal } = this.#options;
    const { path, ...named } = this.#inputs[0]!;
    const { identical, difference } = await compareFiles({
      inputs: [
        { path, snapshot, ...named },
        { path: written.path, ...namedFiles(written, this.#job), snapshot: null },
      ],
      allowExternal: this.#job.allowExternal,
      share,
      http: this.#options.http,
      threads,
      blocking,
      signal,
      kernel: this.#kernels.reading,
      onProgress: this.#progressOf('verify'),
    });
    if (identical) return null;
    const at = difference && 'offset' in difference ? ` at guest offset ${difference.offset}` : '';
    return `it differs from the source${at}`;
  }

  /** Several inputs are one disk in the target. */
  async #differenceOfDigests(written: WrittenTarget): Promise<string | null> {
    const kernel = this.#kernels.reading;
    const { signal } = this.#options;
    const options = { algorithm: 'sha256-sparse', kernel, signal } as const;
    const onProgress = this.#progressOf('verify');
    const images = await openSource(this.#files, kernel, signal);
    try {
      const size = images.reduce((sum, { virtualSize }) => sum + virtualSize, 0);
      const range = { offset: 0, length: size };
      const { checksum } = await loadChecksum();
      const expected = await checksum(images, { ...options, range, onProgress });
      const same = await this.#digest(written, { ...options, range });
      return same === expected ? null : 'its digest differs from that of the sources';
    } finally {
      for (const image of images) await image.close();
    }
  }

  /** What came as a stream cannot be read again: only its digest is left. */
  async #differenceFromStream(written: WrittenTarget): Promise<string | null> {
    const { signal } = this.#options;
    const onProgress = this.#progressOf('verify');
    const algorithm = this.#algorithm!;
    const kernel = this.#kernels.reading;
    const digest = await this.#digest(written, { algorithm, kernel, signal, onProgress });
    return digest === written.digest ? null : 'its digest differs from that of the source';
  }

  async #digest(written: WrittenTarget, options: ChecksumOptions): Promise<string> {
    const { kernel } = options;
    const image = await openChain(written.path, {
      ...this.#targetFiles(written),
      ...(kernel && { kernel }),
      sync: true,
    });
    try {
      const { checksum } = await loadChecksum();
      return await checksum(image, options);
    } finally {
      await image.close();
    }
  }

  #targetFiles(written: WrittenTarget): OpenImageOptions {
    const { allowExternal } = this.#job;
    const { http } = this.#options;
    return { ...namedFiles(written, this.#job), allowExternal, share: true, http };
  }
}

/** Loaded when it is asked for: node:crypto takes a thread 3 ms. */
function loadChecksum(): Promise<typeof import('../node/checksum.ts')> {
  return import('../node/checksum.ts');
}

/** The files of a target that were named for it, as they are found before it has its name. */
function namedFiles({ format, dataFile }: WrittenTarget, { target, create }: BatchJob): NamedFiles {
  const { backingFile, backingFormat } = create ?? {};
  if (backingFile === undefined) return { format, dataFile };
  const backing = { path: besideTarget(target, backingFile), format: backingFormat };
  return { format, dataFile, backingFile: backing as NamedFiles['backingFile'] };
}

/** The target does not hold what it must. */
function badTarget(target: string, problem: string): Qcow2Error {
  const text = `target '${target}' was not made: ${problem}; the disk or memory may be failing`;
  return new Qcow2Error('BAD_DATA', text, { file: target });
}
