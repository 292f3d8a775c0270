/** Sectors of 512 bytes where the boot sector below reads and writes. */
export const FAR_SECTOR = 3 * 2 ** 20;
export const WRITTEN_SECTOR = 2 ** 20 + 5;

const PORT = 0x3f8;
const BUFFER = 0x8000;

/** Appends machine code of the 16-bit real mode; addresses are those after loading at 0x7c00. */
class Assembler {
  readonly #bytes: number[] = [];

  emit(...bytes: number[]): this {
    this.#bytes.push(...bytes);
    return this;
  }

  /** mov si, address */
  source(address: number): this {
    return this.emit(0xbe, address & 255, address >> 8);
  }

  call(address: number): this {
    const next = this.here + 3;
    const distance = (address - next) & 0xffff;
    return this.emit(0xe8, distance & 255, distance >> 8);
  }

  get here(): number {
    return 0x7c00 + this.#bytes.length;
  }

  get bytes(): readonly number[] {
    return this.#bytes;
  }
}

function words(...values: number[]): number[] {
  return values.flatMap((value) => [value & 255, (value >> 8) & 255]);
}

/** A disk address packet: one sector at `sector`, to or from `BUFFER`. */
function packet(sector: number): number[] {
  return [16, 0, ...words(1, BUFFER, 0, sector, Math.floor(sector / 65536), 0, 0)];
}

function text(line: string): number[] {
  return [...new TextEncoder().encode(line), 0];
}

/**
 * A boot sector that prints on the first serial port: `boot`, the text of the far sector, the text of
 * the sector that is written, then writes `kept` there and prints `done`.
 */
export function bootSector(): Uint8Array {
  // Data comes first, behind a jump over it, so that its addresses are known.
  const data: { name: string; bytes: number[] }[] = [
    { name: 'boot', bytes: text('boot\n') },
    { name: 'done', bytes: text('done\n') },
    { name: 'fail', bytes: text('fail\n') },
    { name: 'kept', bytes: text('kept\n') },
    { name: 'far', bytes: packet(FAR_SECTOR) },
    { name: 'written', bytes: packet(WRITTEN_SECTOR) },
  ];
  const at: Record<string, number> = {};
  let end = 0x7c03;
  for (const { name, bytes } of data) {
    at[name] = end;
    end += bytes.length;
  }
  const code = new Assembler().emit(0xe9, ...words(end - 0x7c03));
  for (const { bytes } of data) code.emit(...bytes);
  code.emit(0xeb, 0); // jmp to the start; its distance is set when that is known
  const jump = code.bytes.length - 1;

  // print: bytes at ds:si up to a 0, to the serial port.
  const print = code.here;
  code.emit(0xac, 0x84, 0xc0, 0x74, 0x0f, 0x88, 0xc3); // lodsb; test al, al; jz end; mov bl, al
  code.emit(0xba, ...words(PORT + 5), 0xec, 0xa8, 0x20, 0x74, 0xf8); // mov dx; in al; test; jz
  code.emit(0xba, ...words(PORT), 0x88, 0xd8, 0xee); // mov dx; mov al, bl; out
  const loop = 256 - (code.here + 2 - print);
  code.emit(0xeb, loop, 0xc3); // jmp print; ret
  const printEnd = code.here - 1;

  // fail: says so and stops.
  const fail = code.here;
  code.source(at.fail!).call(print);
  const stop = code.here;
  code.emit(0xfa, 0xf4, 0xeb, 0xfd); // cli; hlt; jmp

  const start = code.here;
  code.emit(0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0, 0x7c); // segments 0, stack
  code.emit(0x88, 0x16, ...words(0x7e00)); // mov [0x7e00], dl: the drive
  code.source(at.boot!).call(print);
  for (const name of ['far', 'written']) {
    code.source(at[name]!).emit(0xb4, 0x42, 0x8a, 0x16, ...words(0x7e00), 0xcd, 0x13);
    code.emit(0x0f, 0x82, ...words(fail - (code.here + 4))); // jc fail
    code.source(BUFFER).call(print);
  }
  // The text goes where the packet reads from.
  code.source(at.kept!).emit(0xbf, ...words(BUFFER), 0xb9, 6, 0, 0xf3, 0xa4); // rep movsb
  code.source(at.written!).emit(0xb8, 0, 0x43, 0x8a, 0x16, ...words(0x7e00), 0xcd, 0x13);
  code.emit(0x0f, 0x82, ...words(fail - (code.here + 4)));
  code
    .source(at.done!)
    .call(print)
    .emit(0xe9, ...words(stop - (code.here + 3)));

  const sector = new Uint8Array(512);
  sector.set(code.bytes);
  sector[jump] = start - (0x7c00 + jump + 1);
  sector[print - 0x7c00 + 4] = printEnd - (print + 5);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** A sector that holds a line of text. */
export function textSector(line: string): Uint8Array {
  const sector = new Uint8Array(512);
  sector.set(new TextEncoder().encode(`${line}\n`));
  return sector;
}
