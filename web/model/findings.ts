import { guestOffsetOf } from '../../src/format/geometry.ts';
import { l2OffsetAt, readL1 } from '../../src/image/cluster-tree.ts';
import type { Image } from '../../src/image/image.ts';
import { type CheckFinding, type CheckResult, check } from '../../src/operations/check.ts';

/** A finding, and the part of the disk it is about, if it is about one. */
export interface PlacedFinding extends CheckFinding {
  /** First guest byte. */
  readonly guest?: number;
}

/** What a check found, with places. */
export interface PlacedCheck extends Omit<CheckResult, 'findings'> {
  readonly findings: readonly PlacedFinding[];
}

/**
 * Checks an image, and finds the place on the disk of each entry of its own tables.
 * @throws Qcow2Error those of `check`
 */
export async function placedCheck(
  image: Image,
  onProgress: (done: number, total: number) => void,
  signal?: AbortSignal,
): Promise<PlacedCheck> {
  const result = await check(image, { onProgress, signal });
  const { metadata, storage } = image;
  if (metadata === undefined || result.findings.length === 0) return result;
  const { header, geometry } = metadata;
  const span = { offset: header.l1TableOffset, entries: header.l1Size };
  const l1 = new DataView((await readL1(storage, span)).buffer);
  const tables = new Map<number, number>();
  for (let i = 0; i < span.entries; i++) tables.set(l2OffsetAt(l1, i), i);
  const guestOf = ({ structure, offset }: CheckFinding): number | undefined => {
    if (structure === 'L1 entry') {
      const index = (offset - span.offset) / 8;
      return index >= 0 && index < span.entries ? guestOffsetOf(index, 0, geometry) : undefined;
    }
    if (structure !== 'L2 entry' && structure !== 'L2 table') return undefined;
    const table = offset - (offset % geometry.clusterSize);
    const index = tables.get(table);
    if (index === undefined) return undefined;
    return guestOffsetOf(index, (offset - table) / geometry.l2EntrySize, geometry);
  };
  const findings = result.findings.map((finding): PlacedFinding => {
    const guest = guestOf(finding);
    return guest === undefined || guest >= image.virtualSize ? finding : { ...finding, guest };
  });
  return { ...result, findings };
}
