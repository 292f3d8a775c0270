import { describe, expect, it } from 'vitest';
import { VECTORS, type Vector } from './vector.ts';
import {
  verifyAesSector,
  verifyLuksEssivSector,
  verifyLuksHeader,
  verifyLuksKeyMaterial,
  verifyLuksXtsSector,
} from './verify-encryption.ts';
import {
  verifyBackingFileName,
  verifyFeatureNameRow,
  verifyHeader,
  verifyHeaderExtension,
} from './verify-header.ts';
import {
  verifyCompressedPayload,
  verifyExtendedL2Entry,
  verifyL1Entry,
  verifyL2Entry,
  verifyRefcountBlockSlice,
  verifyRefcountTableEntry,
} from './verify-mapping.ts';
import {
  verifyBitmapData,
  verifyBitmapDirectoryEntry,
  verifyBitmapTableEntry,
  verifySnapshotEntry,
} from './verify-tables.ts';

/** How each kind is verified, and how many vectors of it there are. */
const VERIFIED_HERE: Record<string, [count: number, verify: (vector: Vector) => void]> = {
  header: [32, verifyHeader],
  header_extension: [11, verifyHeaderExtension],
  feature_name_row: [8, verifyFeatureNameRow],
  backing_file_name: [2, verifyBackingFileName],
  refcount_table_entry: [7, verifyRefcountTableEntry],
  refcount_block_slice: [22, verifyRefcountBlockSlice],
  l1_entry: [15, verifyL1Entry],
  l2_entry: [46, verifyL2Entry],
  l2_entry_extended: [18, verifyExtendedL2Entry],
  compressed_payload: [6, verifyCompressedPayload],
  snapshot_table_entry: [4, verifySnapshotEntry],
  bitmap_directory_entry: [6, verifyBitmapDirectoryEntry],
  bitmap_table_entry: [9, verifyBitmapTableEntry],
  bitmap_data: [3, verifyBitmapData],
  aes_cbc_sector: [5, verifyAesSector],
  luks1_header: [1, verifyLuksHeader],
  luks_key_material_sector: [1, verifyLuksKeyMaterial],
  luks_xts_sector: [4, verifyLuksXtsSector],
  luks_cbc_essiv_sector: [1, verifyLuksEssivSector],
};

/** Kinds that need a whole image, by the suite that verifies them. */
const VERIFIED_ELSEWHERE: Record<string, [count: number, suite: string]> = {
  check_result: [34, 'test/operations/check-vectors.test.ts'],
};

describe('every vector is accounted for', () => {
  it('by kind and number', () => {
    const found: Record<string, number> = {};
    for (const { kind } of VECTORS) found[kind] = (found[kind] ?? 0) + 1;
    const wanted = Object.entries({ ...VERIFIED_HERE, ...VERIFIED_ELSEWHERE });
    expect(found).toEqual(Object.fromEntries(wanted.map(([kind, [count]]) => [kind, count])));
  });
  it('in total', () => expect(VECTORS).toHaveLength(235));
});

for (const [kind, [, verify]] of Object.entries(VERIFIED_HERE)) {
  describe(kind, () => {
    const vectors = VECTORS.filter((vector) => vector.kind === kind);
    it.each(vectors.map((vector) => [vector.id, vector] as const))('%s', (_, vector) => {
      verify(vector);
    });
  });
}
