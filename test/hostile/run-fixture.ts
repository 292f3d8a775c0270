import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect } from 'vitest';
import { isQcow2Error, type Qcow2Error } from '../../src/errors.ts';
import type { Image } from '../../src/image/image.ts';
import { openImage } from '../../src/node/open-image.ts';
import { info } from '../../src/operations/info.ts';
import { map } from '../../src/operations/map.ts';
import { qcow2 } from '../cli/command.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { type Expected, expectedOf, type Fixture, type Stage, World } from './fixture.ts';
import { openedFiles } from './opened-files.ts';

/** Most milliseconds anything may take; nearly all takes one or two. */
const TIME_LIMIT = 3000;
/** Which stages make a verb fail. */
const FAILS: Readonly<Record<Verb, readonly Stage[]>> = {
  info: ['open', 'metadata'],
  map: ['open', 'map'],
  read: ['open', 'map', 'read'],
};
const NAME = 'image.qcow2';
/** Guest bytes read at most. */
const READ_BYTES = 1 << 20;

const VERBS = ['info', 'map', 'read'] as const;
type Verb = (typeof VERBS)[number];

/** Makes a fixture and holds everything that can be done to it to what its name says. */
export async function runFixture(fixture: Fixture): Promise<void> {
  const root = makeTempDir('hostile');
  try {
    const world = new World(root);
    const image = fixture.make(world);
    world.put(NAME, image);
    const expected = expectedOf(fixture);
    const opened = openedFiles();
    try {
      for (const verb of fixture.encrypted ? (['info'] as const) : VERBS) {
        const wanted = FAILS[verb].includes(fixture.stage) ? expected : undefined;
        await inTime(verb, async () => {
          const message = await useLibrary(world, verb, wanted, image.guest);
          await useCommand(world, verb, message, image.guest);
        });
      }
      await inTime('the chain', () => describeChain(world));
    } finally {
      opened.stop();
    }
    requireInside(opened.paths, world);
  } finally {
    removeTempDir(root);
  }
}

async function inTime(what: string, work: () => Promise<void>): Promise<void> {
  const started = performance.now();
  await work();
  expect(performance.now() - started, `milliseconds of ${what}`).toBeLessThan(TIME_LIMIT);
}

/** Nothing outside the image's folder was opened; what this process loads for itself does not count. */
function requireInside(paths: readonly string[], world: World): void {
  const repository = path.resolve(import.meta.dirname, '../..');
  const own = [world.folder, repository, '/proc/locks', '/proc/self', process.execPath];
  for (const file of paths) {
    const isOwn = own.some((start) => file === start || file.startsWith(`${start}/`));
    expect(isOwn, `${file} may be opened`).toBe(true);
  }
}

/** Returns the message of the error that was expected. */
async function useLibrary(
  world: World,
  verb: Verb,
  expected: Expected | undefined,
  guest: Uint8Array,
): Promise<string | undefined> {
  let failure: unknown;
  try {
    const image = await openImage(world.path(NAME), { sync: true });
    try {
      await use(image, verb, guest);
    } finally {
      await image.close();
    }
  } catch (error) {
    failure = error;
  }
  if (expected !== undefined) return requireError(failure, expected);
  if (failure !== undefined) throw failure;
  return undefined;
}

async function use(image: Image, verb: Verb, guest: Uint8Array): Promise<void> {
  if (verb === 'info') {
    JSON.stringify(await info(image));
  } else if (verb === 'map') {
    for await (const entry of map(image)) expect(entry.length).toBeGreaterThan(0);
  } else {
    const bytes = new Uint8Array(Math.min(image.virtualSize, READ_BYTES));
    await image.read(0, bytes);
    requireSame(bytes, guest);
  }
}

/** Zeros stand in for what lies behind the given bytes. */
function requireSame(read: Uint8Array, guest: Uint8Array): void {
  const wanted = new Uint8Array(read.length);
  wanted.set(guest.subarray(0, read.length));
  expect(Buffer.compare(read, wanted), 'the guest bytes').toBe(0);
}

function requireError(failure: unknown, { code, structure }: Expected): string {
  if (!isQcow2Error(failure)) throw failure ?? new Error(`nothing failed, ${code} was expected`);
  const { message, details } = failure;
  expect(`${failure.code}: ${message}`).toMatch(new RegExp(`^${code}: `));
  expect(message).not.toMatch(/[\n\r]/);
  expect(message.length).toBeLessThan(4000);
  if (details.structure !== structure) expect(message).toContain(structure);
  if (code !== 'NOT_QCOW2' && code !== 'NEED_KEY') requirePlaceNamed(failure);
  return message;
}

/** The offending value or its offset is in an error's text, in decimal or hexadecimal. */
function requirePlaceNamed({ message, details }: Qcow2Error): void {
  const numbers = [details.value, details.offset].filter(
    (value) => typeof value === 'bigint' || (typeof value === 'number' && value !== 0),
  );
  const shown = numbers.flatMap((value) => [String(value), `0x${value?.toString(16)}`]);
  const isNamed = shown.length === 0 || shown.some((text) => message.includes(text));
  expect(isNamed, `"${message}" names ${shown.join(' or ')}`).toBe(true);
}

const COMMANDS: Readonly<Record<Verb, readonly (readonly string[])[]>> = {
  info: [['info'], ['info', '--output=json']],
  map: [['map', '--output=json']],
  read: [['convert', '-O', 'raw']],
};

/** @param message what the library said; undefined if the command must succeed */
async function useCommand(
  world: World,
  verb: Verb,
  message: string | undefined,
  guest: Uint8Array,
): Promise<void> {
  const target = world.path('out.raw');
  for (const [name = '', ...options] of COMMANDS[verb]) {
    const operands = verb === 'read' ? [world.path(NAME), target] : [world.path(NAME)];
    const { status, stdout, stderr } = await qcow2(name, ...options, ...operands);
    requirePrintable(stdout);
    if (message === undefined) {
      expect([status, stderr], name).toEqual([0, '']);
      if (verb === 'read') requireSame(readStart(target), guest);
      continue;
    }
    expect(status, name).toBe(1);
    expect(stderr).toMatch(/^qcow2: [^\n]*\n$/);
    requirePrintable(stderr);
    // The command line says the subject once, in front.
    const subject = `'${world.path(NAME)}' `;
    expect(stderr).toContain(message.startsWith(subject) ? message.slice(subject.length) : message);
    expect(fs.existsSync(target), 'a target is left').toBe(false);
  }
  const left = fs.readdirSync(world.folder).filter((file) => file.includes('partial'));
  expect(left, 'files left behind').toEqual([]);
  fs.rmSync(target, { force: true });
}

/** `info` of the whole chain: whatever it finds, it says so in good order. */
async function describeChain(world: World): Promise<void> {
  const { status, stdout, stderr } = await qcow2('info', '--backing-chain', world.path(NAME));
  requirePrintable(stdout);
  expect(stderr).toMatch(status === 0 ? /^$/ : /^qcow2: [^\n]*\n$/);
  expect(stderr).not.toContain('internal error');
}

function readStart(file: string): Uint8Array {
  const bytes = new Uint8Array(Math.min(fs.statSync(file).size, READ_BYTES));
  const descriptor = fs.openSync(file, 'r');
  try {
    fs.readSync(descriptor, bytes);
    return bytes;
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Nothing a terminal would obey. */
function requirePrintable(text: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/);
}
