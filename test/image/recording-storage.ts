import { MemoryStorage } from '../../src/storage/memory.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** A change of one of several files, or a sync of it, in the order in which they happened. */
export type Change =
  | { readonly file: string; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly file: string; readonly sync: true };

const SECTOR = 512;

/** A file in memory that logs what is done to it. */
export class RecordingStorage implements Storage {
  readonly name: string;
  readonly #memory: MemoryStorage;
  readonly #log: Change[];

  constructor(name: string, bytes: Uint8Array, log: Change[]) {
    this.name = name;
    this.#memory = new MemoryStorage(bytes.slice(), name);
    this.#log = log;
  }

  get size(): number {
    return this.#memory.size;
  }

  read(offset: number, into: Uint8Array): number {
    return this.#memory.read(offset, into);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#memory.write(offset, bytes);
    // Sectors reach a disk whole.
    const from = offset - (offset % SECTOR);
    const sectors = new Uint8Array(Math.ceil((offset + bytes.length) / SECTOR) * SECTOR - from);
    const n = this.#memory.read(from, sectors);
    this.#log.push({ file: this.name, offset: from, bytes: sectors.subarray(0, n) });
  }

  punchHole(offset: number, length: number): void {
    this.write(offset, new Uint8Array(length));
  }

  flush(): void {
    this.#log.push({ file: this.name, sync: true });
  }

  close(): void {}
}

/**
 * What files hold when the power goes after the first `count` changes: of a file's changes since its last
 * sync each has reached the disk or not, as `survives` says.
 */
export function afterCut(
  files: ReadonlyMap<string, Uint8Array>,
  log: readonly Change[],
  count: number,
  survives: (index: number) => boolean,
): Map<string, MemoryStorage> {
  const left = new Map<string, MemoryStorage>();
  for (const [name, bytes] of files) left.set(name, new MemoryStorage(bytes.slice(), name));
  const synced = new Map<string, number>();
  for (let i = 0; i < count; i++) if ('sync' in log[i]!) synced.set(log[i]!.file, i);
  for (let i = 0; i < count; i++) {
    const change = log[i]!;
    if ('sync' in change) continue;
    const isDurable = i < (synced.get(change.file) ?? -1);
    if (isDurable || survives(i)) left.get(change.file)!.write(change.offset, change.bytes);
  }
  return left;
}
