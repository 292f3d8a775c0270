import { describe, expect, it } from 'vitest';
import { parseJobs, readJobFile } from '../../src/batch/job-file.ts';

const FILE = '/srv/jobs/night.json';
const parse = (value: unknown) => parseJobs(JSON.stringify(value), FILE);
const JOB = { input: 'a.qcow2', target: 'out/a.raw', format: 'raw' };

describe('a job file', () => {
  it('gives jobs with names relative to its folder', () => {
    expect(parse({ jobs: [JOB, { ...JOB, input: ['a', '/b'], target: '../c' }] })).toEqual([
      {
        inputs: [{ path: '/srv/jobs/a.qcow2', format: undefined }],
        target: '/srv/jobs/out/a.raw',
        targetFormat: 'raw',
        create: {},
        allowExternal: [],
      },
      {
        inputs: [
          { path: '/srv/jobs/a', format: undefined },
          { path: '/b', format: undefined },
        ],
        target: '/srv/c',
        targetFormat: 'raw',
        create: {},
        allowExternal: [],
      },
    ]);
  });

  it('fills in defaults, option by option', () => {
    const defaults = {
      inputFormat: 'qcow2',
      format: 'qcow2',
      compress: true,
      create: { clusterSize: 4096, compressionType: 'zstd' },
      allowExternal: ['bases'],
      share: true,
    };
    const own = {
      snapshot: 'before',
      compress: false,
      create: { clusterSize: 65536, lazyRefcounts: true },
      allowExternal: 'any',
    };
    const [first, second] = parse({
      defaults,
      jobs: [
        { input: 'a', target: 'b' },
        { input: 'c', target: 'd', ...own },
      ],
    });
    expect(first).toMatchObject({
      inputs: [{ path: '/srv/jobs/a', format: 'qcow2' }],
      targetFormat: 'qcow2',
      compress: true,
      create: defaults.create,
      allowExternal: ['/srv/jobs/bases'],
      share: true,
    });
    expect(second).toMatchObject({
      snapshot: 'before',
      compress: false,
      create: { clusterSize: 65536, lazyRefcounts: true, compressionType: 'zstd' },
      allowExternal: 'any',
    });
  });

  it('may begin with a byte order mark', () => {
    expect(parseJobs(`\ufeff${JSON.stringify({ jobs: [JOB] })}`, 'jobs.json')[0]).toMatchObject({
      inputs: [{ path: 'a.qcow2' }],
      target: 'out/a.raw',
    });
  });

  it.each([
    ['[]', 'it must hold an object with the key "jobs"'],
    ['null', 'it must hold an object with the key "jobs"'],
    ['{}', 'key "jobs" is missing'],
    ['{"jobs": []}', '"jobs" must be a list of at least one job'],
    ['{"jobs": [], "job": 1}', '"jobs" must be a list of at least one job'],
    [{ jobs: [JOB], job: 1 }, 'unknown key "job"; there are defaults, jobs'],
    [{ jobs: [JOB, 7] }, 'jobs[1]: must be an object'],
    [{ jobs: [JOB], defaults: [] }, '"defaults" must be an object'],
    [
      { jobs: [JOB], defaults: { target: 'x' } },
      'defaults: unknown key "target"; there are inputFormat, snapshot, format, compress, compressionLevel, create, allowExternal, share, checkSource, verify, checksum',
    ],
    ['{"jobs": [{"__proto__": {}}]}', /^jobs\[0\]: unknown key "__proto__"; /],
    ['{"jobs": [{"toString": 1}]}', /^jobs\[0\]: unknown key "toString"; /],
    [{ jobs: [JOB, { ...JOB, fromat: 'raw' }] }, /^jobs\[1\]: unknown key "fromat"; there are /],
    [{ jobs: [{ input: 'a', target: 'b' }] }, 'jobs[0]: key "format" is missing'],
    [{ jobs: [{ target: 'b', format: 'raw' }] }, 'jobs[0]: key "input" is missing'],
    [{ jobs: [{ input: 'b', format: 'raw' }] }, 'jobs[0]: key "target" is missing'],
    [{ jobs: [{ ...JOB, input: [] }] }, /^jobs\[0\]: "input" must be a text or a list of texts/],
    [{ jobs: [{ ...JOB, input: ['a', ''] }] }, /^jobs\[0\]: "input" must be a text or a list/],
    [{ jobs: [{ ...JOB, target: 'a\0b' }] }, 'jobs[0]: "target" must be a text that is not empty'],
    [{ jobs: [{ ...JOB, format: 'vmdk' }] }, 'jobs[0]: "format" must be "raw" or "qcow2"'],
    [{ jobs: [{ ...JOB, compress: 'yes' }] }, 'jobs[0]: "compress" must be true or false'],
    [{ jobs: [{ ...JOB, compress: true }] }, 'jobs[0]: "compress" needs "format": "qcow2"'],
    [
      { jobs: [{ ...JOB, create: { clusterSize: 512 } }] },
      'jobs[0].create: "clusterSize" needs "format": "qcow2"',
    ],
    [
      { jobs: [{ ...JOB, create: { clusterSize: '64k' } }] },
      'jobs[0].create: "clusterSize" must be a whole number from 0 to 2^53 - 1',
    ],
    [{ jobs: [{ ...JOB, create: { cluster: 1 } }] }, /^jobs\[0\]\.create: unknown key "cluster"; /],
    [{ jobs: [JOB], defaults: { create: { a: 1 } } }, /^defaults\.create: unknown key "a"; /],
    [{ jobs: [{ ...JOB, create: null }] }, 'jobs[0]: "create" must be an object'],
    [{ jobs: [{ ...JOB, allowExternal: 'all' }] }, /^jobs\[0\]: "allowExternal" must be "any" or /],
    [
      { jobs: [{ ...JOB, input: ['a', 'b'], snapshot: 's' }] },
      /^jobs\[0\]: "snapshot" needs a single/,
    ],
    ['{"jobs":\n[\n{]', /^it is not JSON: [^\n]+$/],
  ] as [unknown, string | RegExp][])('%j is refused', (value, message) => {
    const json = typeof value === 'string' ? value : JSON.stringify(value);
    const prefix = `job file '${FILE}': `;
    let text = '';
    try {
      parseJobs(json, FILE);
    } catch (error) {
      expect(error).toMatchObject({ name: 'Qcow2Error', code: 'INVALID_ARGUMENT' });
      text = (error as Error).message;
    }
    expect(text.slice(0, prefix.length)).toBe(prefix);
    if (typeof message === 'string') expect(text.slice(prefix.length)).toBe(message);
    else expect(text.slice(prefix.length)).toMatch(message);
  });

  it('must be there', () => {
    expect(() => readJobFile('/nothere.json')).toThrow(
      "Could not open '/nothere.json': No such file or directory",
    );
  });
});
