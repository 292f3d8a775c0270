import { createHash } from 'node:crypto';

/** Bytes of a block, the leaf of the tree. */
export const BLOCK_BYTES = 2 * 1024 * 1024;

const ZERO = Buffer.alloc(32);
const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);
const DOMAIN = Buffer.from('qcow2 sha256-sparse 1\n');

/** A subtree of 2^height blocks. */
interface Subtree {
  height: number;
  hash: Uint8Array;
}

/** The hash of a block that holds data; zeros lie behind `bytes` if they are fewer. */
export function blockHash(bytes: Uint8Array): Uint8Array {
  return sha256(LEAF, bytes, Buffer.alloc(BLOCK_BYTES - bytes.length));
}

/** The hash tree of `sha256-sparse` (see `checksum`), built from left to right. */
export class ZeroTree {
  /** Subtrees of falling height that are to be joined. */
  readonly #stack: Subtree[] = [];
  /** Blocks added so far. */
  #blocks = 0;

  /** Adds a block that holds data at `index`, by its hash; what lies between it and the last one is zeros. */
  add(index: number, hash: Uint8Array): void {
    this.#addZeros(index - this.#blocks);
    this.#push({ height: 0, hash });
  }

  /** The digest of a disk of `size` bytes; what lies behind the last block added is zeros. */
  digest(size: number): Buffer {
    const blocks = Math.max(1, Math.ceil(size / BLOCK_BYTES));
    this.#addZeros(2 ** Math.ceil(Math.log2(Math.max(blocks, this.#blocks))) - this.#blocks);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(size));
    return sha256(DOMAIN, length, this.#stack[0]?.hash ?? ZERO);
  }

  /** Zeros in the largest subtrees that fit: their number follows the height, not the length. */
  #addZeros(count: number): void {
    for (let left = count; left > 0; ) {
      let height = 0;
      while (this.#blocks % 2 ** (height + 1) === 0 && 2 ** (height + 1) <= left) height++;
      this.#push({ height, hash: ZERO });
      left -= 2 ** height;
    }
  }

  #push(subtree: Subtree): void {
    this.#blocks += 2 ** subtree.height;
    let right = subtree;
    while (this.#stack.at(-1)?.height === right.height) {
      const left = this.#stack.pop()!;
      const isZero = left.hash === ZERO && right.hash === ZERO;
      const hash = isZero ? ZERO : sha256(NODE, left.hash, right.hash);
      right = { height: right.height + 1, hash };
    }
    this.#stack.push(right);
  }
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
