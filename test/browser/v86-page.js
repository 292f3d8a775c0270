// Runs in a page: boots picked images as an application would.
import { Image, MemoryStorage } from '/dist/index.js';
import { toV86Disk } from '/dist/v86.js';
import { V86 } from '/v86/libv86.mjs';

const picked = (name) =>
  [...document.querySelector('#files').files].find((file) => file.name === name);

async function printed(hda, until) {
  const emulator = new V86({
    wasm_path: '/v86/v86.wasm',
    bios: { url: '/seabios/bios.bin' },
    vga_bios: { url: '/seabios/vgabios-stdvga.bin' },
    memory_size: 32 * 2 ** 20,
    hda,
    autostart: true,
  });
  let text = '';
  await new Promise((resolve) =>
    emulator.add_listener('serial0-output-byte', (byte) => {
      text += String.fromCharCode(byte);
      if (text.includes(until)) resolve();
    }),
  );
  await emulator.destroy();
  return text;
}

/** Boots a file, then the overlay that was saved of it; what both print, and the overlay. */
export async function bootTwice(name) {
  const image = await Image.open(picked(name));
  const first = await toV86Disk(image);
  const before = await printed(first, 'done\n');
  const saved = new MemoryStorage();
  await first.save(saved, { backingFile: name });
  await first.close();
  const overlay = await Image.open(saved.bytes.slice(), { backingFile: picked(name) });
  const second = await toV86Disk(overlay);
  const after = await printed(second, 'done\n');
  await second.close();
  await overlay.close();
  await image.close();
  const bytes = Array.from(saved.bytes, (byte) => byte.toString(16).padStart(2, '0'));
  return { before, after, overlay: bytes.join('') };
}
