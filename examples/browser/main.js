// Opens a picked image, shows what is in it, and converts it to a file.
import { check, convert, Image, info, map, StreamStorage } from 'qcow2';

const $ = (id) => document.getElementById(id);

/** Parts of a disk, by where they are stored: name of the colour, text of the legend. */
const KINDS = {
  data: 'data',
  packed: 'compressed data',
  below: 'data of a backing file',
  zero: 'zeros',
  none: 'never written',
};

let image;
let converting;

$('files').addEventListener('change', () => run(() => show([...$('files').files])));
$('convert').addEventListener('submit', (event) => {
  event.preventDefault();
  run(save);
});
$('stop').addEventListener('click', () => converting?.abort());

/** Does something and shows what went wrong. */
async function run(work) {
  $('error').hidden = true;
  try {
    await work();
  } catch (error) {
    $('error').textContent = error.message;
    $('error').hidden = false;
  }
}

/** Opens the picked file that no other one names, the others being those it is made of. */
async function openPicked(files) {
  const last = (path) => path.slice(path.lastIndexOf('/') + 1);
  const resolver = ({ name }) => files.find((file) => file.name === last(name)) ?? null;
  const opened = await Promise.all(files.map((file) => Image.open(file, { resolver })));
  const named = new Set();
  for (const { metadata } of opened)
    for (const name of [metadata?.backingFile, metadata?.dataFile])
      if (name !== undefined) named.add(last(name.text));
  const [top] = opened.filter(({ storage }) => !named.has(storage.name));
  for (const other of opened) if (other !== top) await other.close();
  if (top === undefined) throw new Error('Choose a disk image.');
  return top;
}

async function show(files) {
  converting?.abort();
  $('result').hidden = true;
  await image?.close();
  image = undefined;
  image = await openPicked(files);
  await showFacts();
  await showMap();
  await showCheck();
  $('download').hidden = true;
  $('result').hidden = false;
}

async function showFacts() {
  const facts = await info(image);
  const { formatSpecific: qcow2, snapshots } = facts;
  $('name').textContent = facts.filename;
  const rows = {
    Format: facts.format + (qcow2 ? ` (${qcow2.compat}, ${qcow2.compressionType})` : ''),
    'Disk size': bytes(facts.virtualSize),
    'File size': bytes(image.storage.size),
    'Cluster size': facts.clusterSize && bytes(facts.clusterSize),
    'Backing file': facts.backingFilename,
    'Data file': qcow2?.dataFile,
    Snapshots: snapshots.map(({ name }) => name).join(', '),
  };
  $('facts').replaceChildren(
    ...Object.entries(rows)
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [element('dt', name), element('dd', value)]),
  );
}

async function showMap() {
  const canvas = $('map').getContext('2d');
  const { width, height } = canvas.canvas;
  const lengths = {};
  canvas.clearRect(0, 0, width, height);
  for await (const entry of map(image)) {
    const kind = kindOf(entry);
    lengths[kind] = (lengths[kind] ?? 0) + entry.length;
    const scale = width / image.virtualSize;
    canvas.fillStyle = colour(kind);
    canvas.fillRect(entry.start * scale, 0, Math.max(entry.length * scale, 0.5), height);
  }
  $('legend').replaceChildren(
    ...Object.entries(KINDS)
      .filter(([kind]) => lengths[kind])
      .map(([kind, text]) => {
        const item = element('li', `${text}: ${bytes(lengths[kind])}`);
        const box = element('i');
        box.style.background = colour(kind);
        item.prepend(box);
        return item;
      }),
  );
}

function kindOf({ data, compressed, depth, present }) {
  if (data && depth > 0) return 'below';
  if (data) return compressed ? 'packed' : 'data';
  return present ? 'zero' : 'none';
}

async function showCheck() {
  if (image.format === 'raw') {
    $('check').textContent = 'A raw image has nothing to check.';
    return;
  }
  const { corruptions, leaks, findings } = await check(image);
  $('check').textContent =
    corruptions + leaks === 0
      ? 'No errors were found.'
      : `${corruptions} corruptions and ${leaks} leaked clusters: ${findings[0]?.message}`;
}

/** Converts to a file of this page's own, and offers it for download. */
async function save() {
  const kind = $('target').value;
  const format = kind === 'raw' ? 'raw' : 'qcow2';
  const name = `${image.storage.name.replace(/\.\w+$/, '')}-converted.${format}`;
  const folder = await navigator.storage.getDirectory();
  const handle = await folder.getFileHandle(name, { create: true });
  const target = new StreamStorage(await handle.createWritable(), name);
  converting = new AbortController();
  working(true);
  try {
    await convert(image, target, {
      format,
      compress: kind === 'compressed',
      signal: converting.signal,
      onProgress: (done, total) => {
        $('progress').value = done / total;
      },
    });
    await target.close();
  } catch (error) {
    await target.abort();
    throw error;
  } finally {
    working(false);
  }
  const file = await handle.getFile();
  const link = element('a', `Save ${name}`);
  Object.assign(link, { href: URL.createObjectURL(file), download: name });
  $('download').replaceChildren(link, ` (${bytes(file.size)})`);
  $('download').hidden = false;
}

function working(busy) {
  $('progress').value = 0;
  for (const id of ['progress', 'stop']) $(id).hidden = !busy;
  $('download').hidden = true;
  for (const control of $('convert').querySelectorAll('select, button:not(#stop)'))
    control.disabled = busy;
}

function colour(kind) {
  // A canvas does not know of custom properties: an element does.
  const probe = element('i');
  probe.style.color = `var(--${kind})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function element(tag, text = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function bytes(count) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count === 0 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${Number((count / 1024 ** power).toFixed(1))} ${units[power]}`;
}
