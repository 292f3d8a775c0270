import { readFileSync } from 'node:fs';
import { V86 } from 'v86';
import type { V86Disk } from '../../src/adapters/v86-disk.ts';

const BIOS = '/usr/share/seabios';

function file(path: string): { buffer: ArrayBuffer } {
  const { buffer, byteOffset, byteLength } = readFileSync(path);
  return { buffer: buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer };
}

/** Starts an emulated PC from a disk and returns what it printed on the serial port, up to `until`. */
export async function boot(hda: V86Disk, until: string, seconds = 60): Promise<string> {
  const wasm = new URL('../../node_modules/v86/build/v86.wasm', import.meta.url);
  const emulator = new V86({
    wasm_path: wasm.pathname,
    memory_size: 32 * 2 ** 20,
    vga_memory_size: 2 * 2 ** 20,
    bios: file(`${BIOS}/bios.bin`),
    vga_bios: file(`${BIOS}/vgabios-stdvga.bin`),
    // The published types know members, not objects that have them.
    hda: hda as unknown as { buffer: ArrayBuffer },
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
    autostart: true,
  });
  let printed = '';
  try {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`nothing more after ${JSON.stringify(printed)}`)),
        seconds * 1000,
      );
      emulator.add_listener('serial0-output-byte', (byte: number) => {
        printed += String.fromCharCode(byte);
        if (!printed.includes(until)) return;
        clearTimeout(timer);
        resolve(printed);
      });
    });
  } finally {
    await emulator.destroy();
  }
}
