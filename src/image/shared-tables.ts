import { Qcow2Error } from '../errors.ts';
import { clustersFor, type Geometry } from '../format/geometry.ts';
import type { Storage } from '../storage/storage.ts';
import type { L1Table } from './qcow2-layer.ts';

/** Bytes of an L1 table looked at at once. */
const PIECE_BYTES = 1 << 20;

/**
 * Each L1 entry has an L2 table, a cluster of the file, to itself. A table that entries share makes a
 * disk of petabytes, all of it data, out of a few clusters; no writer does that (ours, design: limits).
 * @throws Qcow2Error MALFORMED if more entries point to a table than the file has clusters; IO
 */
export async function requireUnsharedTables(
  storage: Storage,
  l1: L1Table,
  geometry: Geometry,
): Promise<void> {
  const clusters = clustersFor(storage.size, geometry);
  if (l1.entries <= clusters) return;
  const piece = new Uint8Array(Math.min(PIECE_BYTES, l1.entries * 8));
  const view = new DataView(piece.buffer);
  let used = 0;
  for (let at = 0; at < l1.entries * 8; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, l1.entries * 8 - at);
    const n = await storage.read(l1.offset + at, piece.subarray(0, length));
    // Bits 9 to 55 (section 7).
    for (let entry = 0; entry + 8 <= n; entry += 8) {
      if ((view.getUint32(entry) & 0xffffff) !== 0 || view.getUint32(entry + 4) > 511) used++;
    }
    if (used > clusters) break;
  }
  if (used <= clusters) return;
  const text =
    `L1 table of '${storage.name}': ${used} or more entries point to L2 tables, but the file has ` +
    `only ${clusters} clusters; it is damaged or truncated`;
  throw new Qcow2Error('MALFORMED', text, {
    structure: 'L1 table',
    offset: l1.offset,
    value: used,
  });
}
