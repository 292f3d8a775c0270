import type { CompareDifference, CompareResult } from '../operations/compare.ts';

/** What `compare` says, in the words of qemu-img. */
export function compareText({
  identical,
  sizesDiffer,
  difference,
  commonBytes,
}: CompareResult): string {
  const isBehind = difference?.kind !== 'content' || difference.offset >= commonBytes;
  const lines: string[] = [];
  // Said when all that both disks have is the same.
  if (sizesDiffer && difference?.kind !== 'size' && isBehind)
    lines.push('Warning: Image size mismatch!');
  if (difference) lines.push(differenceText(difference));
  if (identical) lines.push('Images are identical.');
  return `${lines.join('\n')}\n`;
}

function differenceText(difference: CompareDifference): string {
  switch (difference.kind) {
    case 'size':
      return 'Strict mode: Image size mismatch!';
    case 'status':
      return `Strict mode: Offset ${difference.offset} block status mismatch!`;
    case 'content':
      return `Content mismatch at offset ${difference.offset}!`;
  }
}
