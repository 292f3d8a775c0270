import type { ScalarMemory } from './memory.ts';

/** Twin of `first_difference`. */
export function firstDifference(
  { u8 }: ScalarMemory,
  a: number,
  b: number,
  length: number,
): number {
  for (let i = 0; i < length; i++) {
    if (u8[a + i] !== u8[b + i]) return i;
  }
  return -1;
}
