import { createHash } from 'node:crypto';
import { Qcow2Error } from '../errors.ts';
import type { DiskDigest } from '../operations/disk-digest.ts';
import { BLOCK_BYTES, blockHash, ZeroTree } from './zero-tree.ts';

/** Digests of a guest disk. */
export const CHECKSUM_ALGORITHMS = ['sha256', 'sha256-sparse'] as const;

/** `sha256` is what `sha256sum` says of the raw disk; `sha256-sparse` costs nothing for zeros. */
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

/** The digest of a disk, taken from its first byte to its last; see `checksum`. */
export interface EndingDigest extends DiskDigest {
  readonly algorithm: ChecksumAlgorithm;
  /** The digest of all bytes before `position`, in hexadecimal; nothing can be added afterwards. */
  end(): string;
}

/** @throws Qcow2Error INVALID_ARGUMENT: there is no such algorithm */
export function diskDigest(algorithm: ChecksumAlgorithm): EndingDigest {
  if (algorithm === 'sha256') return new PlainDigest();
  if (algorithm === 'sha256-sparse') return new SparseDigest();
  const known = CHECKSUM_ALGORITHMS.join(' and ');
  const text = `unknown checksum '${algorithm}'; there are ${known}`;
  throw new Qcow2Error('INVALID_ARGUMENT', text, { value: algorithm });
}

/** Zeros hashed between two looks at events. */
const ZEROS_AT_ONCE = 32 * 1024 * 1024;

class PlainDigest implements EndingDigest {
  readonly algorithm = 'sha256';
  readonly #hash = createHash('sha256');
  #zeros: Uint8Array | undefined;
  #position = 0;
  #ended: string | undefined;

  get position(): number {
    return this.#position;
  }

  part(bytes: Uint8Array): Uint8Array {
    return bytes;
  }

  add(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#position += bytes.length;
  }

  addZeros(offset: number): void {
    this.#zeros ??= new Uint8Array(1024 * 1024);
    const end = Math.min(offset, this.#position + ZEROS_AT_ONCE);
    while (this.#position < end) this.add(this.#zeros.subarray(0, end - this.#position));
  }

  end(): string {
    this.#ended ??= this.#hash.digest('hex');
    return this.#ended;
  }
}

const NOTHING = new Uint8Array(0);

class SparseDigest implements EndingDigest {
  readonly algorithm = 'sha256-sparse';
  readonly #tree = new ZeroTree();
  #position = 0;

  get position(): number {
    return this.#position;
  }

  /** The hash of a block. */
  part(bytes: Uint8Array): Uint8Array {
    return isZero(bytes) ? NOTHING : blockHash(bytes);
  }

  add(hash: Uint8Array, length: number): void {
    // Parts are whole blocks but the last one, or the tree would be another.
    if (this.#position % BLOCK_BYTES !== 0 || length > BLOCK_BYTES)
      throw new RangeError(`${length} bytes at ${this.#position} are not a block of the tree`);
    if (hash.length > 0) this.#tree.add(this.#position / BLOCK_BYTES, hash.slice());
    this.#position += length;
  }

  addZeros(offset: number): void {
    this.#position = offset;
  }

  end(): string {
    return this.#tree.digest(this.#position).toString('hex');
  }
}

/** Compares all bytes with the ones before them: no zeros to compare with are needed. */
function isZero(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return true;
  return bytes[0] === 0 && Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}
