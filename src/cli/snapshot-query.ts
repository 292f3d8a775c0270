import { Qcow2Error } from '../errors.ts';
import type { SnapshotQuery } from '../image/identify.ts';
import { parseKeyValues } from './key-values.ts';

/**
 * Reads what `-l` says: `snapshot.id=ID,snapshot.name=NAME`, or plainly an id or name.
 * @throws Qcow2Error INVALID_ARGUMENT
 */
export function snapshotQuery(text: string): string | SnapshotQuery {
  if (!text.startsWith('snapshot.')) return text;
  const query: SnapshotQuery = {};
  for (const { key, value } of parseKeyValues(text)) {
    if (key === 'snapshot.id' && value !== undefined) query.id = value;
    else if (key === 'snapshot.name' && value !== undefined) query.name = value;
    else {
      const message = `invalid snapshot '${text}': '${key}' is not snapshot.id= or snapshot.name=`;
      throw new Qcow2Error('INVALID_ARGUMENT', message);
    }
  }
  return query;
}
