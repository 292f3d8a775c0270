import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeContent } from '../support/data.ts';
import { runOk } from '../support/run.ts';
import { makeTempDir, removeTempDir } from '../support/temp.ts';
import { parseYaml } from '../support/yaml.ts';
import { PASSWORD, Program, RedisServer } from './queue-support.ts';

const FOLDER = fileURLToPath(new URL('../../examples/kubernetes/', import.meta.url));
const README = readFileSync(join(FOLDER, 'README.md'), 'utf8');
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));

/** API versions of the kinds we use. */
const KINDS: Record<string, string> = {
  Service: 'v1',
  Deployment: 'apps/v1',
  StatefulSet: 'apps/v1',
  Job: 'batch/v1',
};

interface Container {
  name: string;
  image: string;
  args: string[];
  env: { name: string; valueFrom: { secretKeyRef: { name: string; key: string } } }[];
  volumeMounts: { name: string; mountPath: string }[];
}

interface Resource {
  apiVersion: string;
  kind: string;
  metadata: { name?: string; generateName?: string };
  spec: {
    selector?: { matchLabels?: object };
    volumeClaimTemplates?: { metadata: { name: string } }[];
    template?: {
      metadata: { labels: object };
      spec: {
        terminationGracePeriodSeconds?: number;
        restartPolicy?: string;
        containers: Container[];
        volumes?: { name: string }[];
      };
    };
  };
}

const resources = FILES.flatMap((name) =>
  parseYaml(readFileSync(join(FOLDER, name), 'utf8')).map((resource) => ({
    file: name,
    ...(resource as unknown as Resource),
  })),
);

describe('manifests', () => {
  it.each(resources.map((one) => [one.file, one.kind, one] as const))(
    '%s: %s',
    (_, kind, { apiVersion, metadata, spec }) => {
      expect(apiVersion).toBe(KINDS[kind]);
      expect(metadata.name ?? metadata.generateName).toMatch(/^qcow2-[a-z-]+$/);
      const { template } = spec;
      if (template === undefined) return;
      // Of a job it is made.
      if (kind !== 'Job') expect(spec.selector?.matchLabels).toEqual(template.metadata.labels);
      else expect(template.spec.restartPolicy).toMatch(/^(Never|OnFailure)$/);
      const { containers, volumes = [] } = template.spec;
      const claims = spec.volumeClaimTemplates?.map((claim) => claim.metadata.name) ?? [];
      for (const { image, env, volumeMounts } of containers) {
        for (const { name } of volumeMounts)
          expect([...claims, ...volumes.map((volume) => volume.name)]).toContain(name);
        for (const { valueFrom } of env) {
          const { name, key } = valueFrom.secretKeyRef;
          expect(README).toContain(`create secret generic ${name} `);
          expect(README).toContain(`--from-literal=${key}=`);
        }
        if (!image.startsWith('redis:')) expect(README).toContain(`docker build -t ${image} `);
      }
    },
  );

  it('all are in the guide, and every file of the guide is there', () => {
    const named = README.match(/[\w-]+\.yaml/g) ?? [];
    expect(new Set(named)).toEqual(new Set(FILES));
  });

  it('a worker has the time to give its images back', () => {
    for (const { spec } of resources)
      for (const { args } of spec.template?.spec.containers ?? []) {
        if (args[0] !== 'worker') continue;
        const grace = Number(args[args.indexOf('--grace') + 1]);
        expect(spec.template?.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(
          grace + 10,
        );
      }
  });
});

describe('containers, run as they are printed', () => {
  let dir: string;
  let redis: RedisServer;
  const programs: Program[] = [];

  beforeAll(async () => {
    dir = makeTempDir('kubernetes');
    writeFileSync(join(dir, 'large.raw'), makeContent('text', 8 << 20, 1));
    for (const name of ['a', 'b'])
      writeFileSync(join(dir, `${name}.raw`), makeContent('mixed', 1 << 20, name.charCodeAt(0)));
    const [command, ...args] = argsOf('redis.yaml');
    expect(command).toBe('redis-server');
    redis = await RedisServer.start(dir, {
      args: args.map((arg) => (arg === '$(REDIS_PASSWORD)' ? PASSWORD : arg)),
    });
  });
  afterEach(async () => {
    for (const { child, end } of programs.splice(0)) {
      child.kill('SIGKILL');
      await end;
    }
  });
  afterAll(async () => {
    await redis?.stop();
    removeTempDir(dir);
  });

  function argsOf(file: string): string[] {
    const found = resources.filter((one) => one.file === file && one.spec.template);
    return found.flatMap(({ spec }) => spec.template!.spec.containers.flatMap(({ args }) => args));
  }

  function start(args: readonly string[]): Program {
    const program = new Program(
      args.map((arg) => arg.replace('/images', dir)),
      '/',
      redis.url,
    );
    programs.push(program);
    return program;
  }

  function writeJobs(jobs: object[]): void {
    writeFileSync(join(dir, 'jobs.json'), JSON.stringify({ defaults: { format: 'qcow2' }, jobs }));
  }

  it('workers that are there before the jobs take them, and end when they are told to', async () => {
    const workers = [start(argsOf('workers.yaml')), start(argsOf('workers.yaml'))];
    const slow = { compress: true, compressionLevel: 'best' };
    writeJobs([
      { input: 'a.raw', target: 'out/a.qcow2' },
      { input: 'large.raw', target: 'out/large.qcow2', ...slow },
    ]);
    const submit = start(argsOf('submit.yaml'));
    const isLarge = (event: object): boolean => JSON.stringify(event).includes('large.raw');
    const begun = workers.map((worker) =>
      worker.until((event) => event.event === 'job-started' && isLarge(event)).then(() => worker),
    );
    const busy = await Promise.race(begun);
    // Its pod is evicted: it has the time to finish.
    busy.child.kill('SIGTERM');
    expect(await busy.end).toMatchObject({ status: 0, signal: null, stderr: '' });
    expect(await submit.end).toMatchObject({ status: 0, stderr: '' });
    for (const name of ['a', 'large'])
      await runOk('qemu-img', ['compare', `${name}.raw`, `out/${name}.qcow2`], dir);
    expect(readdirSync(join(dir, 'out')).sort()).toEqual(['a.qcow2', 'large.qcow2']);

    const [, command = ''] = /-- qcow2 (queue .*)\n/.exec(README) ?? [];
    const { stdout } = await start(command.split(' ')).end;
    expect(stdout).toMatch(/^waiting 0, running 0, delayed 0, done 2, failed 0; workers 1\n$/);
  });

  it('workers of a job end when nothing is left, on other workers neither', async () => {
    mkdirSync(join(dir, 'drained'));
    const slow = { compress: true, compressionLevel: 'best' };
    writeJobs([
      { input: 'b.raw', target: 'drained/b.qcow2' },
      { input: 'missing.raw', target: 'drained/missing.qcow2' },
      { input: 'large.raw', target: 'drained/large.qcow2', ...slow },
    ]);
    const submit = argsOf('submit.yaml').filter((arg) => arg !== '--wait');
    expect(await start(submit).end).toMatchObject({ status: 0, stdout: '3 images submitted\n' });
    const [first, second] = [start(argsOf('drain.yaml')), start(argsOf('drain.yaml'))];
    const ends = await Promise.all([first!.end, second!.end]);
    expect(ends).toMatchObject([
      { status: 0, signal: null },
      { status: 0, signal: null },
    ]);
    const events = [...first!.events, ...second!.events].map(({ event }) => event);
    expect(events.filter((event) => event === 'job-finished')).toHaveLength(2);
    expect(events.filter((event) => event === 'job-failed')).toHaveLength(1);
    expect(readdirSync(join(dir, 'drained')).sort()).toEqual(['b.qcow2', 'large.qcow2']);
  });

  it('a worker that is to drain the queue and is stopped before does not say it is done', async () => {
    const slow = { compress: true, compressionLevel: 'best' };
    writeJobs([{ input: 'large.raw', target: 'stopped/large.qcow2', ...slow }]);
    await start(argsOf('submit.yaml').filter((arg) => arg !== '--wait')).end;
    const args = argsOf('drain.yaml').map((arg) => (arg === '50' ? '0' : arg));
    const worker = start(args);
    await worker.until(({ event }) => event === 'job-progress' || event === 'job-started');
    worker.child.kill('SIGTERM');
    const { signal, stderr } = await worker.end;
    expect(signal).toBe('SIGTERM');
    expect(stderr).toMatch(
      /: given back to the queue\nqcow2: stopped before all images of the queue were done\n$/,
    );
    expect(readdirSync(join(dir, 'stopped'))).toEqual([]);
    expect((await start(argsOf('drain.yaml')).end).status).toBe(0);
    await runOk('qemu-img', ['compare', 'large.raw', 'stopped/large.qcow2'], dir);
  });
});
