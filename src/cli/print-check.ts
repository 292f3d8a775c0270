import { printable } from '../errors.ts';
import type { CheckResult } from '../operations/check.ts';
import { jsonText } from './json-text.ts';

/** The summary of `check`, in the lines scripts written for qemu-img look for. */
export function checkText(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, refusals } = result;
  const lines: string[] = [];
  if (corruptions > 0) {
    const risk = 'Data may be corrupted, or further writes to the image may corrupt it.';
    lines.push('', `${corruptions} errors were found on the image.`, risk);
  }
  if (leaks > 0) {
    const harm = 'This means waste of disk space, but no harm to data.';
    lines.push('', `${leaks} leaked clusters were found on the image.`, harm);
  }
  if (checkErrors > 0) {
    lines.push('', `${checkErrors} internal errors have occurred during the check.`);
  }
  if (refusals > 0) {
    const effect = 'Reading the data they stand for fails.';
    lines.push('', `${refusals} unreadable entries were found on the image.`, effect);
  }
  if (lines.length === 0) lines.push('No errors were found on the image.');
  return `${[...lines, ...statistics(result)].join('\n')}\n`;
}

function statistics(result: CheckResult): string[] {
  const { totalClusters: total, allocatedClusters: allocated, imageEndOffset } = result;
  const lines: string[] = [];
  if (total > 0 && allocated > 0) {
    const fragmented = percent(result.fragmentedClusters, allocated);
    const compressed = percent(result.compressedClusters, allocated);
    lines.push(
      `${allocated}/${total} = ${percent(allocated, total)} allocated, ` +
        `${fragmented} fragmented, ${compressed} compressed clusters`,
    );
  }
  if (imageEndOffset > 0) lines.push(`Image end offset: ${imageEndOffset}`);
  return lines;
}

/** Two decimals; ties go to the even digit as in C, where `toFixed` takes the larger. */
function percent(part: number, whole: number): string {
  const value = (part * 100) / whole;
  const isTieDown = (value * 8) % 4 === 1;
  return `${(isTieDown ? Math.floor(value * 100) / 100 : value).toFixed(2)}%`;
}

/** What a repair changed: it stands in front of what is found afterwards. */
export function repairText({ leaksFixed, corruptionsFixed }: Fixed): string {
  return `The following inconsistencies were found and repaired:

    ${leaksFixed} leaked clusters
    ${corruptionsFixed} corruptions

Double checking the fixed image now...
`;
}

/** What was repaired. */
interface Fixed {
  readonly leaksFixed: number;
  readonly corruptionsFixed: number;
}

/** `check --output=json`: keys in qemu-img's order; counts of 0 are left out, but for errors. */
export function checkJson(result: CheckResult, filename: string, fixed?: Fixed): string {
  const value = {
    'image-end-offset': result.imageEndOffset || undefined,
    'compressed-clusters': result.compressedClusters || undefined,
    'total-clusters': result.totalClusters || undefined,
    corruptions: result.corruptions || undefined,
    'corruptions-fixed': fixed?.corruptionsFixed || undefined,
    'check-errors': result.checkErrors,
    leaks: result.leaks || undefined,
    'leaks-fixed': fixed?.leaksFixed || undefined,
    'allocated-clusters': result.allocatedClusters || undefined,
    filename,
    format: 'qcow2',
    'fragmented-clusters': result.fragmentedClusters || undefined,
    refusals: result.refusals || undefined,
  };
  return `${jsonText(value)}\n`;
}

/** What was found, a line each; for standard error. */
export function* findingLines(result: CheckResult): Generator<string> {
  for (const { message, count } of result.findings) {
    yield `${printable(message)}${count > 1 ? ` (${count} times)` : ''}\n`;
  }
  if (result.findingsOmitted > 0)
    yield `${result.findingsOmitted} further findings are not shown\n`;
}
