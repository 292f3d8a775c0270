// The images the benches work on: real files of this machine in an ext4 file system, made once and
// kept below build/bench. qemu-img makes every image, so that both tools read what neither favours.
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const folder = fileURLToPath(new URL('../build/bench/', import.meta.url));

const DISK_BYTES = 4 * 1024 ** 3;
/** Of the disk that go into its third together. */
const STRETCH_BYTES = 16 * 1024 ** 2;
const FILE_BYTES = 1.5 * 1024 ** 3;
/** Where real files come from, as far as they are needed. */
const SOURCES = ['/usr/lib', '/usr/share', '/usr/bin', '/usr/local', '/usr/include', '/var/lib'];
/** Change it when the images change. */
const STAMP = 'images-1';

export function run(command, args, cwd = folder) {
  const { status, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
}

/** Makes all images that are missing; a few minutes the first time. */
export function prepareImages(log) {
  if (!existsSync(join(folder, STAMP))) makeImages(log);
  makeTerabyte();
}

/** A disk of 1 TiB of which 100 GiB have clusters: nothing but metadata, 16 MiB of a sparse file. */
function makeTerabyte() {
  const name = 'terabyte.qcow2';
  if (existsSync(join(folder, name))) return;
  run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', name, '100G']);
  run('qemu-img', ['resize', '-q', name, '1T']);
}

function makeImages(log) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  log('preparing images from the files of this machine (once)');
  const bytes = collectFiles(join(folder, 'tree'));
  run('truncate', ['-s', String(DISK_BYTES), 'disk.raw']);
  run('mkfs.ext4', ['-q', '-d', 'tree', 'disk.raw']);
  rmSync(join(folder, 'tree'), { recursive: true });
  const convert = (from, to, ...options) => run('qemu-img', ['convert', ...options, from, to]);
  convert('disk.raw', 'plain.qcow2', '-O', 'qcow2');
  convert('disk.raw', 'small.qcow2', '-O', 'qcow2', '-o', 'cluster_size=4k');
  convert('disk.raw', 'large.qcow2', '-O', 'qcow2', '-o', 'cluster_size=2M');
  convert('disk.raw', 'extended.qcow2', '-O', 'qcow2', '-o', 'extended_l2=on');
  const parallel = ['-m', '16', '-W', '-c', '-O', 'qcow2'];
  convert('disk.raw', 'deflate.qcow2', ...parallel);
  convert('disk.raw', 'zstd.qcow2', ...parallel, '-o', 'compression_type=zstd');
  convert('disk.raw', 'outside.qcow2', '-O', 'qcow2', '-o', 'data_file=outside.data');
  makeChain();
  makeSnapshot();
  makeSmallImages();
  writeFileSync(join(folder, STAMP), `${bytes} bytes of files\n`);
}

/** A third of the disk, evenly spread over it; the rest are holes. */
export function prepareThird(log) {
  if (existsSync(join(folder, 'third.raw'))) return;
  log('preparing a third of the disk (once)');
  const input = openSync(join(folder, 'disk.raw'), 'r');
  const output = openSync(join(folder, 'third.new'), 'w');
  const bytes = new Uint8Array(2 ** 20);
  ftruncateSync(output, DISK_BYTES);
  for (let at = 0; at < DISK_BYTES; at += bytes.length) {
    if (Math.floor(at / STRETCH_BYTES) % 3 !== 0) continue;
    readSync(input, bytes, 0, bytes.length, at);
    if (bytes.some((byte) => byte !== 0)) writeSync(output, bytes, 0, bytes.length, at);
  }
  closeSync(input);
  closeSync(output);
  renameSync(join(folder, 'third.new'), join(folder, 'third.raw'));
}

/** A part of the disk that is mostly data, in three formats: what is put on a web server. */
export function prepareWeb(log) {
  if (existsSync(join(folder, 'web-deflate.qcow2'))) return;
  log('preparing images for the web server (once)');
  const part = ['bs=1M', 'skip=840', 'count=1024', 'conv=sparse', 'status=none'];
  run('dd', ['if=disk.raw', 'of=web.raw', ...part]);
  const convert = (to, ...options) =>
    run('qemu-img', ['convert', ...options, '-f', 'raw', '-O', 'qcow2', 'web.raw', to]);
  convert('web.qcow2');
  convert('web-new.qcow2', '-c', '-m', '16', '-W');
  renameSync(join(folder, 'web-new.qcow2'), join(folder, 'web-deflate.qcow2'));
}

/** Links (or copies) files into `target` until there are enough. */
function collectFiles(target) {
  let total = 0;
  const add = (from, to) => {
    mkdirSync(to, { recursive: true });
    for (const name of readdirSync(from).sort()) {
      if (total >= FILE_BYTES) return;
      const [source, destination] = [join(from, name), join(to, name)];
      const stat = lstatSync(source);
      if (stat.isDirectory()) add(source, destination);
      else if (stat.isSymbolicLink()) symlinkSync(readlinkSync(source), destination);
      else if (stat.isFile()) {
        link(source, destination);
        total += stat.size;
      }
    }
  };
  for (const source of SOURCES) {
    if (existsSync(source)) add(source, join(target, source));
  }
  return total;
}

function link(source, destination) {
  try {
    linkSync(source, destination);
  } catch {
    copyFileSync(source, destination);
  }
}

/** Three layers: each overlay rewrites a part of the disk. */
function makeChain() {
  let below = 'plain.qcow2';
  for (const [index, name] of ['middle.qcow2', 'top.qcow2'].entries()) {
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', name]);
    const writes = [];
    for (let at = index * 64; at < 4096; at += 128)
      writes.push('-c', `write -q -P ${index + 1} ${at}M 4M`);
    run('qemu-io', [...writes, name]);
    below = name;
  }
}

function makeSnapshot() {
  run('cp', ['plain.qcow2', 'snapshot.qcow2']);
  run('qemu-img', ['snapshot', '-c', 'before', 'snapshot.qcow2']);
  const writes = [];
  for (let at = 0; at < 4096; at += 256) writes.push('-c', `write -q -P 7 ${at}M 8M`);
  run('qemu-io', [...writes, 'snapshot.qcow2']);
}

/** A hundred images of 64 MiB with a few MiB of the disk's data each. */
function makeSmallImages() {
  mkdirSync(join(folder, 'batch'));
  for (let i = 0; i < 100; i++) {
    const raw = join(folder, 'batch.raw');
    run('truncate', ['-s', '64M', raw]);
    const skip = 200 + i * 8;
    run('dd', ['if=disk.raw', `of=${raw}`, 'bs=1M', 'count=4', `skip=${skip}`, 'conv=notrunc']);
    run('qemu-img', ['convert', '-O', 'qcow2', raw, `batch/${String(i).padStart(2, '0')}.qcow2`]);
    rmSync(raw);
  }
}
