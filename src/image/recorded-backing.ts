import type { Name } from '../format/fields.ts';
import { buildHeaderCluster, type HeaderClusterParts } from '../format/header-cluster.ts';
import { backingFormatExtension, type HeaderExtension } from '../format/header-extensions.ts';
import type { Metadata } from './metadata.ts';

/** A backing file as an image records it. */
export interface RecordedBacking {
  readonly name: Name;
  readonly format: string;
}

/**
 * The parts of the first cluster of an image with another backing file, or none.
 * @throws Qcow2Error TOO_LARGE: the name is too long, or does not fit
 */
export function withBacking(
  { header, extensions, geometry }: Metadata,
  backing: RecordedBacking | undefined,
): HeaderClusterParts {
  const others = extensions.filter(({ kind }) => kind !== 'backing-format');
  const format: HeaderExtension[] = backing ? [backingFormatExtension(backing.format)] : [];
  const parts = { header, extensions: [...format, ...others], backingFileName: backing?.name };
  buildHeaderCluster(parts, geometry.clusterSize);
  return parts;
}
