import type { MeasureResult } from '../operations/measure.ts';
import { jsonText } from './json-text.ts';

/** Text of `measure`. */
export function measureText({ required, fullyAllocated, bitmaps }: MeasureResult): string {
  const lines = [`required size: ${required}`, `fully allocated size: ${fullyAllocated}`];
  if (bitmaps !== undefined) lines.push(`bitmaps size: ${bitmaps}`);
  return `${lines.join('\n')}\n`;
}

/** Text of `measure --output=json`, with the keys in the order in which qemu-img prints them. */
export function measureJson({ required, fullyAllocated, bitmaps }: MeasureResult): string {
  return `${jsonText({ bitmaps, required, 'fully-allocated': fullyAllocated })}\n`;
}
