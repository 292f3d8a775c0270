import { spawn } from 'node:child_process';
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { root } from '../api/exports.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { Program, RedisServer } from './queue-support.ts';
import { ended } from './support.ts';

let dir: string;
let redis: RedisServer;

beforeAll(async () => {
  dir = makeTempDir('queue-board');
  redis = await RedisServer.start(dir);
});
afterAll(async () => {
  await redis?.stop();
  removeTempDir(dir);
});

/** What bull-board would show: the numbers of the queue it is given, once the server listens. */
const STAND_INS: Record<string, string> = {
  '@bull-board/api': `export function createBullBoard({ queues, serverAdapter }) {
    serverAdapter.queues = queues;
  }`,
  '@bull-board/api/bullMQAdapter': `export class BullMQAdapter {
    constructor(queue, { readOnlyMode }) { Object.assign(this, { queue, readOnlyMode }); }
  }`,
  '@bull-board/express': `export class ExpressAdapter {
    setBasePath(path) { this.path = path; }
    getRouter() { return this; }
  }`,
  express: `export default () => ({
    use(path, { queues: [{ queue, readOnlyMode }], path: base }) {
      return { async listen(port, host, listening) {
        listening();
        console.log(JSON.stringify({
          path, base, port, host, readOnlyMode,
          counts: await queue.getJobCounts('waiting', 'failed'),
        }));
        process.exit();
      } };
    },
  })`,
};

const standIns: Plugin = {
  name: 'stand-ins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(@bull-board\/|express$)/ }, ({ path }) => ({
      path,
      namespace: 'stand-in',
    }));
    onLoad({ filter: /.*/, namespace: 'stand-in' }, ({ path }) => ({ contents: STAND_INS[path]! }));
  },
};

it('the board of the examples gets the queue that batches submit to', async () => {
  const jobs = ['a', 'b'].map((name) => ({ input: `${name}.raw`, target: name, format: 'raw' }));
  writeFileSync(join(dir, 'jobs.json'), JSON.stringify({ jobs }));
  const submit = new Program(['batch', 'jobs.json', '--queue', 'env'], dir, redis.url);
  expect((await submit.end).status).toBe(0);

  const outfile = join(dir, 'board.mjs');
  await build({
    entryPoints: [join(root, 'examples/queue-board.js')],
    bundle: true,
    format: 'esm',
    platform: 'node',
    external: ['bullmq', 'ioredis'],
    plugins: [standIns],
    outfile,
  });
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  const env = { ...process.env, QCOW2_QUEUE: redis.url };
  const { status, stdout, stderr } = await ended(spawn(process.execPath, [outfile], { env }));
  expect([status, stderr]).toEqual([0, '']);
  const [address = '', shown = ''] = stdout.split('\n');
  expect(address).toBe('http://127.0.0.1:3000/queues/queue/qcow2');
  expect(JSON.parse(shown)).toEqual({
    path: '/queues',
    base: '/queues',
    port: 3000,
    host: '127.0.0.1',
    readOnlyMode: true,
    counts: { waiting: 2, failed: 0 },
  });
});
