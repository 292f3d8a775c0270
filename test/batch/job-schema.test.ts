import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJobs } from '../../src/batch/job-file.ts';
import { COMMON_KEYS, CREATE_KEYS, JOB_KEYS, jobFileSchema } from '../../src/batch/job-schema.ts';

const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
ajv.addSchema(jobFileSchema());
const isFile = ajv.getSchema('urn:qcow2:batch-jobs')!;
const isLine = ajv.getSchema('urn:qcow2:batch-jobs#/$defs/line')!;

/** What the parser says: nothing, or why it refuses. */
function refusal(text: string, name: string): string {
  try {
    parseJobs(text, name);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

/** What a schema cannot say: it depends on the defaults or on another key. */
const BETWEEN_KEYS = / needs |"format" is missing/;

/** Values of each kind, right and wrong. */
const VALUES = fc.oneof(
  fc.constantFrom<unknown>('raw', 'qcow2', 'any', 'zlib', '1.1', 'fast', 'sha256', 'off', ''),
  fc.constantFrom<unknown>('a\0', 'a.img', 'ab'.repeat(32), true, false, null, 0, 65536),
  fc.constantFrom<unknown>(-1, 1.5, 2 ** 53, [], ['a'], ['a', ''], [1], {}, { clusterSize: 512 }),
);

function record(keys: object): fc.Arbitrary<Record<string, unknown>> {
  const some = fc.constantFrom(...Object.keys(keys), 'unknown');
  return fc.dictionary(some, VALUES, { maxKeys: 3 });
}

const CREATE = record(CREATE_KEYS);
const JOB = fc
  .tuple(record(JOB_KEYS), fc.option(CREATE, { nil: undefined }), fc.boolean())
  .map(([own, create, isWhole]) => ({
    ...(isWhole && { input: 'a', target: 'b', format: 'qcow2' }),
    ...own,
    ...(create && { create }),
  }));
const DEFAULTS = fc.option(record(COMMON_KEYS), { nil: undefined });

function agree(isValid: boolean, why: string): void {
  if (why === '') expect(isValid).toBe(true);
  else if (!BETWEEN_KEYS.test(why)) expect([why, isValid]).toEqual([why, false]);
}

describe('the schema of job files', () => {
  it('and the parser take the same files', () => {
    fc.assert(
      fc.property(DEFAULTS, fc.array(JOB, { maxLength: 2 }), (defaults, jobs) => {
        const file = { ...(defaults && { defaults }), jobs };
        agree(isFile(file) === true, refusal(JSON.stringify(file), 'jobs.json'));
      }),
      { numRuns: 2000 },
    );
  });

  it('and the parser take the same lines', () => {
    const line = fc.oneof(
      JOB,
      DEFAULTS.map((defaults) => ({ defaults: defaults ?? 1 })),
    );
    fc.assert(
      fc.property(line, (value) => {
        // A line of defaults alone makes no jobs.
        const whole = '{"input":"a","target":"b","format":"raw"}\n';
        const isDefaults = 'defaults' in value;
        agree(
          isLine(value) === true,
          refusal(`${isDefaults ? whole : ''}${JSON.stringify(value)}`, 'j.jsonl'),
        );
      }),
      { numRuns: 2000 },
    );
  });

  it('knows every key, and tells about it', () => {
    for (const { help } of [JOB_KEYS, CREATE_KEYS].flatMap((keys) => Object.values(keys)))
      expect(help).toMatch(/^[A-Z].*\.$/);
  });
});

describe('a job a line', () => {
  const JOB_LINE = '{"input":"a","target":"b"}';

  it('has the defaults of the last line of them', () => {
    const lines = [
      '{"defaults":{"format":"raw","verify":true}}',
      JOB_LINE,
      '',
      '{"defaults":{"format":"qcow2","checksum":"sha256"}}',
      JOB_LINE.replace('}', `,"digest":"${'0'.repeat(64)}"}`),
    ];
    expect(parseJobs(`${lines.join('\n')}\n`, '/srv/jobs.ndjson')).toMatchObject([
      { inputs: [{ path: '/srv/a' }], target: '/srv/b', targetFormat: 'raw', verify: true },
      { targetFormat: 'qcow2', checksum: 'sha256', digest: '0'.repeat(64) },
    ]);
  });

  it.each([
    ['', 'it must hold at least one job, each a line of JSON'],
    ['{"defaults":{}}', 'it must hold at least one job, each a line of JSON'],
    [`${JOB_LINE}`, 'line 1: key "format" is missing'],
    [`\n{"defaults":{"target":"x"}}`, 'line 2: defaults: unknown key "target"; there are '],
    ['{"input":', 'line 1: it is not JSON: '],
    ['[]', 'line 1: must be an object'],
    ['{"input":"a","target":"b","format":"raw","digest":"00"}', 'line 1: "digest" must be 64 hex'],
    [
      `{"input":"a","target":"b","format":"raw","digest":"${'0'.repeat(64)}"}`,
      'line 1: "digest" needs "checksum"',
    ],
  ])('%j is refused', (text, message) => {
    expect(refusal(text, 'jobs.ndjson')).toContain(`job file 'jobs.ndjson': ${message}`);
  });
});
