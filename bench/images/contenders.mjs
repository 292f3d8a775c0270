// Who is measured: our CLI, our library in a process already started, qemu-img, and a loop in C.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folder } from '../data.mjs';
import { buildProgram } from '../native/build.mjs';
import { watchOthers } from './accounting.mjs';
import { runProcess } from './process.mjs';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const STARTED = fileURLToPath(new URL('./started-process.mjs', import.meta.url));

/**
 * @typedef {object} Contender
 * @property {string} key
 * @property {() => Promise<import('./process.mjs').Run>} run
 * @property {() => Promise<void>} [close]
 */

/** @returns {Contender} */
function program(key, command, args) {
  return { key, run: () => runProcess(command, args, folder) };
}

function ours(words) {
  return program('ours', process.execPath, [CLI, ...words]);
}

/** The contenders of a case; the first is ours. */
export function contendersOf({ ours: words, typed, best, copies, started, isInfo }, log) {
  const list = [started ? startedProcess(started) : ours(words)];
  list.push(program('qemu-img', 'qemu-img', typed));
  if (best) list.push(program('qemu-img -m 16 -W', 'qemu-img', best));
  const loop = copies && buildProgram('copy-ranges', log);
  if (loop) list.push(program('a C loop', loop, copies));
  // What Node costs before it does anything.
  if (isInfo) list.push(program('node -e 0', process.execPath, ['-e', '0']));
  return list;
}

/**
 * The contenders of a row that reads from a web server: ours, curl and then ours, and qemu-img, one request
 * at a time (`-m 1`): with more its curl driver stops for ever in one run of two.
 * @param {import('./web-server.mjs').WebServer} server
 */
export function urlContenders({ url, format }, server) {
  const from = `${server.origin}/${url}`;
  const probed = url.endsWith('.raw') ? ['-f', 'raw'] : [];
  const convert = (input) => ['convert', ...probed, '-O', format, input, 'out.image'];
  const download = `curl -sfo out.data '${from}' && exec "$@"`;
  const local = [process.execPath, CLI, ...convert('out.data')];
  const typed = ['60', 'qemu-img', ...convert(from).toSpliced(1, 0, '-m', '1')];
  return [
    ours(convert(from)),
    program('curl, then ours', 'sh', ['-c', download, 'sh', ...local]),
    program('qemu-img -m 1', 'timeout', typed),
  ].map(({ key, run }) => ({ key, run: () => withServer(run, server) }));
}

/** What the server used is nobody else's work. */
async function withServer(run, server) {
  const before = server.seconds();
  const result = await run();
  return { ...result, foreign: Math.max(0, result.foreign - (server.seconds() - before)) };
}

/** One process that is sent its work; its start is not measured. */
function startedProcess({ verb, path }) {
  const child = fork(STARTED, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const run = () =>
    new Promise((resolve, reject) => {
      const others = watchOthers();
      const onExit = (status) => reject(new Error(`the started process: exit status ${status}`));
      child.once('exit', onExit);
      child.once('message', (/** @type {any} */ result) => {
        child.off('exit', onExit);
        resolve({ ...result, foreign: others(result.user + result.system) });
      });
      child.send({ verb, path });
    });
  const close = async () => {
    child.disconnect();
    // Its time counts among that of ended children then, so not during another run.
    await once(child, 'exit');
  };
  return { key: 'ours', run, close };
}

/** The contenders of the batch: what people put around qemu-img. */
export function batchContenders({ ours: words, loop, xargs }) {
  const inputs = readdirSync(join(folder, 'batch')).map((name) => `batch/${name}`);
  return [
    ours(words.flatMap((word) => (word === 'batch/*.qcow2' ? inputs : [word]))),
    program('a shell loop', 'sh', ['-c', loop]),
    program('xargs -P2', 'sh', ['-c', xargs]),
  ];
}
