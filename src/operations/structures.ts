import { clustersFor } from '../format/geometry.ts';
import type { Header } from '../format/header.ts';
import type { Structure } from '../image/overlap-check.ts';
import type { WritableQcow2 } from '../image/writable-qcow2.ts';

/** Takes a step back. */
export type Undo = () => Promise<void>;

/**
 * Takes steps that lead to nothing yet. If one fails, those before it are taken back, last first, and
 * the image is as it was; if that fails too, it takes no more writes, and a repair finds the leaks.
 */
export async function orUndo<T>(
  disk: WritableQcow2,
  steps: (undo: Undo[]) => Promise<T>,
): Promise<T> {
  const undo: Undo[] = [];
  try {
    return await steps(undo);
  } catch (error) {
    try {
      for (const step of undo.reverse()) await step();
      await disk.writeBack.finish();
    } catch {
      disk.writeBack.file.fail(error);
    }
    throw error;
  }
}

/** Writes a structure to new clusters; returns its host offset, 0 if it is empty. */
export async function place(
  disk: WritableQcow2,
  structure: Structure,
  bytes: Uint8Array,
  undo: Undo[],
): Promise<number> {
  if (bytes.length === 0) return 0;
  const { allocator, writeBack, header } = disk;
  const clusters = clustersFor(bytes.length, header.metadata.geometry);
  const offset = await allocator.allocateClusters(clusters);
  writeBack.overlap.claim(structure, offset, bytes.length);
  undo.push(() => remove(disk, structure, offset, bytes.length));
  await writeBack.file.write(offset, bytes);
  return offset;
}

/** Frees a structure nothing on the disk leads to. */
export async function remove(
  disk: WritableQcow2,
  structure: Structure,
  offset: number,
  length: number,
): Promise<void> {
  if (length === 0) return;
  disk.writeBack.overlap.release(structure, offset, length);
  await disk.releaseClusters(offset, clustersFor(length, disk.header.metadata.geometry));
}

/**
 * Changes fields of the header in one write, between two barriers. Whether a write that failed has
 * changed them is not known: nothing can be written after it.
 */
export function switchTo(
  { header, writeBack }: WritableQcow2,
  changes: Partial<Header>,
): Promise<void> {
  return writeBack.undivided(async () => {
    await header.update(changes);
    await writeBack.barrier();
  });
}
