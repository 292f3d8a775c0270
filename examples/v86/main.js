// Boots a picked image in the emulator v86, and saves what the guest wrote as a qcow2 image.
import { HttpStorage, httpResolver, Image, MemoryStorage } from 'qcow2';
import { toV86Disk } from 'qcow2/v86';
import { V86 } from 'v86';

const $ = (id) => document.getElementById(id);

/** The machine that is running: its image, its disk and the emulator. */
let machine;

$('choose').addEventListener('submit', (event) => {
  event.preventDefault();
  const url = $('url').value;
  run(async () => boot(await (url ? openUrl(url) : openPicked([...$('files').files]))));
});
$('overlay').addEventListener('click', () => run(() => save('overlay')));
$('whole').addEventListener('click', () => run(() => save('whole')));
$('stop').addEventListener('click', () => run(stop));

/** Does something and shows what went wrong. */
async function run(work) {
  try {
    $('status').textContent = (await work()) ?? '';
  } catch (error) {
    $('status').textContent = error.message;
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

/** Opens an image on a web server; its backing files are looked for in the same folder. */
async function openUrl(url) {
  return Image.open(await HttpStorage.open(url), { resolver: httpResolver(url) });
}

async function boot(image) {
  await stop();
  const hda = await toV86Disk(image, {
    onError: (error) => {
      $('status').textContent = error.message;
    },
  });
  $('serial').textContent = '';
  $('machine').hidden = false;
  const emulator = new V86({
    wasm_path: '../../node_modules/v86/build/v86.wasm',
    bios: { url: 'bios/bios.bin' },
    vga_bios: { url: 'bios/vgabios-stdvga.bin' },
    memory_size: Number($('memory').value) * 2 ** 20,
    screen_container: $('screen'),
    hda,
    autostart: true,
  });
  emulator.add_listener('serial0-output-byte', (byte) => {
    $('serial').append(String.fromCharCode(byte));
  });
  machine = { image, hda, emulator };
  return `Booting ${image.storage.name}`;
}

/** Saves the disk, as it is now, as a download. */
async function save(what) {
  if (!machine) return;
  const { image, hda } = machine;
  const target = new MemoryStorage();
  const name = image.storage.name.replace(/^.*\//, '');
  await hda.save(target, what === 'overlay' ? { backingFile: name } : { compress: true });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([target.bytes]));
  link.download = `${name.replace(/\.\w+$/, '')}-${what}.qcow2`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return `${link.download}: ${target.size} bytes`;
}

async function stop() {
  if (!machine) return;
  const { image, hda, emulator } = machine;
  machine = undefined;
  await emulator.destroy();
  await hda.close();
  await image.close();
  $('machine').hidden = true;
  return 'Stopped';
}
