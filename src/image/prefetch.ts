import { RUN_COMPRESSED, RUN_DATA } from '../kernel/abi.ts';
import type { Storage } from '../storage/storage.ts';
import type { Plan } from './plan.ts';
import type { ReadableLayer } from './reader.ts';

/** Ranges of a file closer than this are fetched together. */
const GAP_BYTES = 65536;

/** Host bytes `[start, end)`. */
interface HostRange {
  start: number;
  end: number;
}

/** Whether the data of a chain is somewhere where fetching it ahead helps. */
export function canPrefetch(layers: readonly ReadableLayer[]): boolean {
  return layers.some(({ layer }) => layer.dataStorage.prefetch !== undefined);
}

/** Tells the storages of a chain what executing a plan will read, neighbours in one. */
export function prefetchPlan(plan: Plan, layers: readonly ReadableLayer[]): void {
  for (const [storage, ranges] of rangesOf(plan, layers)) {
    ranges.sort((a, b) => a.start - b.start);
    let [joined] = ranges;
    for (const range of ranges) {
      if (range.start > joined!.end + GAP_BYTES) {
        storage.prefetch!(joined!.start, joined!.end - joined!.start);
        joined = range;
      } else joined!.end = Math.max(joined!.end, range.end);
    }
    storage.prefetch!(joined!.start, joined!.end - joined!.start);
  }
}

function rangesOf(plan: Plan, layers: readonly ReadableLayer[]): Map<Storage, HostRange[]> {
  const found = new Map<Storage, HostRange[]>();
  for (let i = 0; i < plan.count; i++) {
    const kind = plan.kind[i]!;
    if (kind !== RUN_DATA && kind !== RUN_COMPRESSED) continue;
    const { dataStorage } = layers[plan.layer[i]!]!.layer;
    if (dataStorage.prefetch === undefined) continue;
    const start = plan.host[i]!;
    const end = start + (kind === RUN_DATA ? plan.length[i]! : plan.aux[i]!);
    const ranges = found.get(dataStorage);
    if (ranges) ranges.push({ start, end });
    else found.set(dataStorage, [{ start, end }]);
  }
  return found;
}
