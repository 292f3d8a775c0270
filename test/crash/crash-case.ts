import * as fs from 'node:fs';
import * as path from 'node:path';
import { afterAll, expect } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { RecordingStorage, StorageLog } from '../../src/storage/recording.ts';
import { Random } from '../fuzz/random.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type CrashState, crashStates, textOf } from './crash-states.ts';
import { type Fault, FaultPlan, FaultStorage, type FaultyCall } from './fault-storage.ts';
import { PagedStorage } from './paged-storage.ts';
import { type Files, type ImageExpectation, judge, judgeWithQemu } from './verdict.ts';

/** An operation that must be safe at any cut. */
export interface CrashCase {
  readonly name: string;
  /** The files before it, by name; a file that is to be made is there with no bytes. */
  files(): Promise<Record<string, Uint8Array>> | Record<string, Uint8Array>;
  /** Does the operation on the bench's storages, and says there what must hold of it. */
  run(bench: Bench): Promise<void>;
  /** `kill` where the operation promises nothing about power cuts. Default `power`. */
  readonly cause?: 'power' | 'kill';
  /** First cut made, asked for once the operation has run. Default 0. */
  readonly from?: () => number;
  /** Looks further at states that passed: one in so many (default 50). */
  readonly also?: (
    state: CrashState,
    expectations: readonly ImageExpectation[],
  ) => Promise<string | undefined>;
  readonly alsoOneIn?: number;
}

/** Where an operation runs: storages that log what it does and, if asked to, fail. */
export class Bench {
  readonly log = new StorageLog();
  readonly random: Random;
  readonly plan: FaultPlan;
  /** What must hold of each image after any cut. */
  readonly expectations: ImageExpectation[] = [];
  /** Requests the operation saw fail, and went on. */
  rejections = 0;
  readonly #files: ReadonlyMap<string, PagedStorage>;

  constructor(files: Files, seed: number, fault?: Fault) {
    this.#files = files;
    this.random = new Random(seed, 0x0be7);
    this.plan = new FaultPlan(fault);
  }

  /** The storage over a file. */
  storage(name: string): FaultStorage {
    const file = this.#files.get(name);
    if (file === undefined) throw new Error(`the case has no file '${name}'`);
    return new FaultStorage(new RecordingStorage(file, this.log), this.plan);
  }

  /** Events of the log so far. */
  get position(): number {
    return this.log.events.length;
  }

  expect(expectation: ImageExpectation): void {
    this.expectations.push(expectation);
  }
}

export interface CrashOptions {
  /** Default 1. */
  seed?: number;
  /** Most states judged. Default 500. */
  states?: number;
  /** Of them, how many qemu-img judges too. Default 0. */
  qemu?: number;
  fault?: Fault;
}

/** What came of a case. */
export interface CrashReport {
  /** States judged. */
  readonly states: number;
  /** The first state that breaks a promise: everything needed to see it again. */
  readonly failure: string | undefined;
  /** Calls the operation made to its storages. */
  readonly calls: Readonly<Record<FaultyCall, number>>;
  /** Calls that failed as planned, and whether the operation noticed. */
  readonly failures: number;
  readonly noticed: boolean;
}

/** Crash states judged, and of them those around a call that was made to fail; of this test file. */
const judgedStates = { all: 0, withFaults: 0 };

afterAll(() => {
  const { all, withFaults } = judgedStates;
  const file = path.basename(expect.getState().testPath!);
  console.log(`${file}: ${all} crash states judged, ${withFaults} of them around failed calls`);
});

/** Runs an operation once, and judges the states that cuts in it may leave. */
export async function crash(
  crashCase: CrashCase,
  { seed = 1, states = 500, qemu = 0, fault }: CrashOptions = {},
): Promise<CrashReport> {
  const files = Object.entries(await crashCase.files());
  const base = new Map(files.map(([name, bytes]) => [name, new PagedStorage(name, bytes)]));
  const bench = new Bench(copies(base), seed, fault);
  let noticed = false;
  try {
    await crashCase.run(bench);
    noticed = bench.rejections > 0;
  } catch (error) {
    if (fault === undefined || !isQcow2Error(error)) throw error;
    noticed = true;
  }
  const judged = await judgeStates(crashCase, bench, base, { seed, states, qemu });
  const { counts, failures } = bench.plan;
  judgedStates.all += judged.states;
  if (failures > 0) judgedStates.withFaults += judged.states;
  return { ...judged, calls: counts, failures, noticed };
}

function copies(files: Files): Map<string, PagedStorage> {
  return new Map([...files].map(([name, file]) => [name, file.copy()]));
}

async function judgeStates(
  crashCase: CrashCase,
  bench: Bench,
  base: Files,
  { seed, states, qemu }: Required<Omit<CrashOptions, 'fault'>>,
): Promise<{ states: number; failure: string | undefined }> {
  const { expectations, log } = bench;
  if (expectations.length === 0) throw new Error(`case '${crashCase.name}' expects nothing`);
  const versionOf = (cut: number): number =>
    expectations.reduce((sum, { disk }) => sum + disk.versionOf(cut), 0);
  const cause = crashCase.cause ?? 'power';
  const from = Math.min(crashCase.from?.() ?? 0, log.events.length);
  const choice = { seed, limit: states, cause, from, versionOf };
  const generator = crashStates(base, log.events, choice);
  const random = new Random(seed, 0x5a3e);
  const folder = qemu > 0 ? makeTempDir('crash') : undefined;
  let count = 0;
  try {
    for (const state of generator) {
      count++;
      const forQemu = folder !== undefined && random.below(states) < qemu ? folder : undefined;
      const forMore = crashCase.also !== undefined && random.oneIn(crashCase.alsoOneIn ?? 50);
      const fault =
        (await faultOf(state, expectations, forQemu)) ??
        (forMore ? await crashCase.also!(state, expectations) : undefined);
      if (fault === undefined) continue;
      const failure = describe(crashCase, seed, count, state, fault, bench);
      return { states: count, failure };
    }
  } finally {
    if (folder !== undefined) removeTempDir(folder);
  }
  return { states: count, failure: undefined };
}

async function faultOf(
  { files, cut }: CrashState,
  expectations: readonly ImageExpectation[],
  folder: string | undefined,
): Promise<string | undefined> {
  for (const expected of expectations) {
    const fault =
      (await judge(files, cut, expected)) ??
      (folder && (await judgeWithQemu(files, cut, expected, folder)));
    if (fault) return fault;
  }
  return undefined;
}

/** Folder for states that broke a promise: QCOW2_CRASH_KEEP. */
const KEEP = process.env.QCOW2_CRASH_KEEP;

function describe(
  { name }: CrashCase,
  seed: number,
  count: number,
  { cut, description, files }: CrashState,
  fault: string,
  { log, plan }: Bench,
): string {
  if (KEEP !== undefined) {
    fs.mkdirSync(KEEP, { recursive: true });
    for (const [file, storage] of files) fs.writeFileSync(`${KEEP}/${file}`, storage.bytes);
  }
  const before = log.events.slice(Math.max(0, cut - 30), cut);
  const events = before.map((event, i) => `  #${cut - before.length + i} ${textOf(event)}`);
  const injected = plan.fault ? `, fault ${JSON.stringify(plan.fault)}` : '';
  return [
    `'${name}', seed ${seed}, state ${count}, cut before event ${cut} of ${log.events.length}${injected}:`,
    fault,
    'changes not known to be durable:',
    ...description.map((line) => `  ${line}`),
    'events before the cut:',
    ...events,
  ].join('\n');
}

/**
 * Makes calls of an operation fail, one a run: of each kind the first, the last, and any others. Each time it must reject with
 * a `Qcow2Error` unless `survives` allows going on, and the states around must be as safe as without.
 * @throws Error the operation threw something else
 */
export async function crashWithFaults(
  crashCase: CrashCase,
  options: {
    seed?: number;
    /** Runs. */
    faults: number;
    /** States judged for each. */
    states?: number;
    survives?: (fault: Fault) => boolean;
  },
): Promise<{ runs: number; states: number; failure: string | undefined }> {
  const { seed = 1, states = 40 } = options;
  const whole = await crash(crashCase, { seed, states: 1 });
  const random = new Random(seed, 0xfa17);
  const calls = (Object.keys(whole.calls) as FaultyCall[]).filter((call) => whole.calls[call] > 0);
  let judged = 0;
  for (let runs = 0; runs < options.faults; runs++) {
    const call = calls[runs % calls.length]!;
    const turn = Math.floor(runs / calls.length);
    const fault: Fault = {
      call,
      // The first and the last, which often differ from the others, and then any.
      nth: [1, whole.calls[call]][turn] ?? 1 + random.below(whole.calls[call]),
      errno: random.pick(['ENOSPC', 'EIO'] as const),
      stays: turn > 0 && random.oneIn(2),
      half: random.oneIn(2),
    };
    const report = await crash(crashCase, { seed, states, fault });
    judged += report.states;
    let { failure } = report;
    if (report.failures > 0 && !report.noticed && !options.survives?.(fault))
      failure = `'${crashCase.name}' took no notice of ${JSON.stringify(fault)}`;
    if (failure !== undefined) return { runs: runs + 1, states: judged, failure };
  }
  return { runs: options.faults, states: judged, failure: undefined };
}
