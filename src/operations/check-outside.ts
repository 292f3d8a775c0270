import { Qcow2Error } from '../errors.ts';
import type { GivenFiles } from '../image/backing-chain.ts';
import { Image } from '../image/image.ts';
import type { Metadata } from '../image/metadata.ts';
import {
  type OutsideFile,
  type OutsideResolver,
  openOutside,
  refusal,
} from '../image/open-gate.ts';
import type { OpenOptions } from '../image/open-options.ts';
import type { Storage } from '../storage/storage.ts';

/**
 * Opens what an image needs besides itself, data file and backing chain, and closes it again: an
 * image without them cannot be used, however sound its own file is.
 * @param given files the caller has: they are not opened
 * @throws Qcow2Error EXTERNAL_REFUSED, NOT_FOUND, and those of opening each file
 */
export async function requireOutsideFiles(
  storage: Storage,
  metadata: Metadata,
  resolver: OutsideResolver | undefined,
  given: GivenFiles = {},
): Promise<void> {
  const namedBy = storage.name ?? '';
  if (metadata.hasDataFile && given.dataFile === undefined) {
    const name = metadata.dataFile?.text;
    if (name === undefined) {
      const text = `'${namedBy}' keeps its data in an external file but records no name for it`;
      throw new Qcow2Error('MALFORMED', text, { structure: 'data file name' });
    }
    const opened = await openOutside({ role: 'data file', name, namedBy }, resolver);
    await opened.close();
  }
  const backing = metadata.backingFile?.text;
  if (backing === undefined || given.backingFile !== undefined) return;
  const file = { role: 'backing file', name: backing, namedBy } as const;
  const image = await openBacking(file, metadata.backingFormat, storage, resolver);
  try {
    await image.chain();
  } finally {
    await image.close();
  }
}

async function openBacking(
  file: OutsideFile,
  recorded: string | undefined,
  above: Storage,
  resolver: OutsideResolver | undefined,
): Promise<Image> {
  if (recorded !== undefined && recorded !== 'qcow2' && recorded !== 'raw') {
    const text = `backing file '${file.name}': recorded format '${recorded}' is not supported; only qcow2 and raw are`;
    throw new Qcow2Error('UNSUPPORTED', text, { structure: 'backing file format' });
  }
  const storage = await openOutside(file, resolver);
  if (storage.identity !== undefined && storage.identity === above.identity) {
    await storage.close();
    const text = `'${above.name}' names itself as its backing file; an image must not refer back to itself`;
    throw new Qcow2Error('REFUSED', text, { structure: 'backing chain' });
  }
  const options: OpenOptions = {};
  if (recorded !== undefined) options.format = recorded;
  if (resolver !== undefined) options.resolver = resolver;
  const image = await Image.open(storage, options);
  const namesMore = image.metadata?.backingFile !== undefined || image.metadata?.hasDataFile;
  if (recorded !== undefined || !namesMore) return image;
  await image.close();
  // The guest writes the bytes that are probed: it must not be able to make up a backing file.
  throw refusal(file, 'its format is not recorded and it names a further file');
}
