import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeHeader, parseHeader, validateHeader } from '../../src/format/header.ts';
import { buildHeaderCluster, readBackingFileName } from '../../src/format/header-cluster.ts';
import {
  encodeHeaderExtension,
  parseHeaderExtensions,
  validateHeaderExtensions,
} from '../../src/format/header-extensions.ts';
import { toHex } from './vector.ts';

let folder = '';

/**
 * Runs qemu-img. Making a LUKS area it times itself, which fails now and then on a busy machine
 * with coarse CPU clocks; that, and nothing else, is tried again.
 */
function qemuImg(...args: string[]): void {
  for (let attempt = 1; ; attempt++) {
    const { status, stderr } = spawnSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
    if (status === 0) return;
    if (attempt === 30 || !stderr.includes('accurate CPU usage')) throw new Error(stderr);
  }
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qcow2-header-'));
  qemuImg('create', '-q', '-f', 'raw', 'base.raw', '1M');
  qemuImg('create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const secret = ['--object', 'secret,id=s,data=hunter2'];
const backing = ['-b', 'base.raw', '-F', 'raw'];

/** Options of `qemu-img create`, and commands run on the image afterwards. */
const IMAGES: [name: string, create: string[], ...then: string[][]][] = [
  ['defaults', []],
  ['version 2', ['-o', 'compat=0.10']],
  ['version 2 with backing', ['-o', 'compat=0.10', ...backing]],
  ['512-byte clusters', ['-o', 'cluster_size=512']],
  ['512-byte clusters with backing', ['-o', 'cluster_size=512', ...backing]],
  ['4 KiB clusters', ['-o', 'cluster_size=4k']],
  ['8 KiB clusters', ['-o', 'cluster_size=8k']],
  ['2 MiB clusters', ['-o', 'cluster_size=2M']],
  ['backing raw', backing],
  ['backing qcow2', ['-b', 'base.qcow2', '-F', 'qcow2']],
  ['extended L2', ['-o', 'extended_l2=on']],
  ['zstd', ['-o', 'compression_type=zstd']],
  ['lazy refcounts', ['-o', 'lazy_refcounts=on']],
  ['1-bit refcounts', ['-o', 'refcount_bits=1']],
  ['64-bit refcounts', ['-o', 'refcount_bits=64']],
  ['data file', ['-o', 'data_file=data.raw']],
  ['raw data file', ['-o', 'data_file=data2.raw,data_file_raw=on']],
  ['AES', [...secret, '-o', 'encrypt.format=aes,encrypt.key-secret=s']],
  ['LUKS', [...secret, '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10']],
  ['preallocated', ['-o', 'preallocation=metadata']],
  ['bitmaps', [], ['bitmap', '--add', 'IMAGE', 'one'], ['bitmap', '--add', 'IMAGE', 'two']],
  ['snapshot', [], ['snapshot', '-c', 'first', 'IMAGE']],
  ['rebased', backing, ['rebase', '-u', '-b', '', 'IMAGE']],
];

describe('the first cluster of an image made by qemu-img', () => {
  it.each(IMAGES)(
    '%s: parsed, valid, rebuilt byte for byte',
    (name, create, ...then) => {
      const image = `${name.replaceAll(' ', '-')}.img`;
      const size = create.includes('-b') ? [] : ['10M'];
      qemuImg('create', '-q', '-f', 'qcow2', ...create, image, ...size);
      for (const args of then) qemuImg(...args.map((arg) => (arg === 'IMAGE' ? image : arg)));
      const path = join(folder, image);
      const file = readFileSync(path);
      const header = parseHeader(file);
      const bytes = Uint8Array.from(file.subarray(0, 2 ** header.clusterBits));
      const geometry = validateHeader(header, statSync(path).size);
      const extensions = parseHeaderExtensions(bytes, header);
      validateHeaderExtensions(header, extensions, geometry, file.length);
      const backingFileName = readBackingFileName(bytes, header);

      const encoded = encodeHeader(header);
      expect(toHex(encoded)).toBe(toHex(bytes.slice(0, encoded.length)));
      let at = header.headerLength;
      for (const extension of extensions) {
        const part = encodeHeaderExtension(extension);
        expect(toHex(part)).toBe(toHex(bytes.slice(at, at + part.length)));
        at += part.length;
      }
      const parts = { header, extensions, backingFileName };
      expect(toHex(buildHeaderCluster(parts, geometry.clusterSize))).toBe(toHex(bytes));
      const fresh = extensions.filter((extension) => extension.kind !== 'feature-names');
      const again = buildHeaderCluster({ ...parts, extensions: fresh }, geometry.clusterSize);
      expect(toHex(again)).toBe(toHex(bytes));
    },
    30_000,
  );
});
