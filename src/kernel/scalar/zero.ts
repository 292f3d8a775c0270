import type { ScalarMemory } from './memory.ts';

/** Twin of `zero_range`. */
export function zeroRange({ u8 }: ScalarMemory, ptr: number, length: number): number {
  const end = ptr + length;
  for (let p = ptr; p < end; p++) {
    if (u8[p] !== 0) return 0;
  }
  return 1;
}

/** Twin of `nonzero_bitmap`. */
export function nonzeroBitmap(
  memory: ScalarMemory,
  ptr: number,
  length: number,
  unitBits: number,
  out: number,
): number {
  const unit = 2 ** Math.min(unitBits, 32);
  const units = Math.ceil(length / unit);
  let total = 0;
  for (let i = 0; i < units; i++) {
    const used = 1 - zeroRange(memory, ptr + i * unit, Math.min(unit, length - i * unit));
    const at = out + (i >> 3);
    if ((i & 7) === 0) memory.u8[at] = 0;
    memory.u8[at] = (memory.u8[at] as number) | (used << (i & 7));
    total += used;
  }
  return total;
}
