import { Socket } from 'node:net';
import { growPipe } from '../storage/file-system-calls.ts';

/** Bytes of a buffer the system reads into. */
const BLOCK_BYTES = 2 ** 20;
/** One that is being used, one that is being filled, and some between. */
const BLOCKS = 4;

/** A buffer: bytes from `taken` to `filled` have come and were not handed on. */
interface Block {
  bytes: Uint8Array;
  filled: number;
  taken: number;
}

/**
 * What comes from a pipe or a socket, read straight into buffers that are used again: each piece is
 * valid until the next one is asked for. Reading goes on meanwhile, as far as there is room. Nothing
 * waits in a system call, so that the process can end when it has to.
 * @param fd is closed when the pieces end or are given up
 */
export function pipePieces(fd: number): AsyncIterable<Uint8Array> & { destroy(): void } {
  return new PipePieces(fd);
}

class PipePieces implements AsyncIterableIterator<Uint8Array> {
  readonly #socket: Socket;
  readonly #free: Block[] = Array.from({ length: BLOCKS - 1 }, newBlock);
  /** Blocks that hold bytes, in order; the last of all is being filled. */
  readonly #used: Block[] = [newBlock()];
  #isPaused = false;
  #isAtEnd = false;
  #failure: Error | undefined;
  #wake: () => void = () => {};

  constructor(fd: number) {
    growPipe(fd);
    this.#socket = new Socket({
      fd,
      readable: true,
      writable: false,
      onread: { buffer: () => this.#room(), callback: (length: number) => this.#came(length) },
    } as ConstructorParameters<typeof Socket>[0]);
    this.#socket.on('end', () => this.#end());
    this.#socket.on('close', () => this.#end());
    this.#socket.on('error', (error) => this.#end(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#giveBack();
    let block = this.#used[0]!;
    while (block.taken === block.filled) {
      if (this.#failure) throw this.#failure;
      if (this.#isAtEnd) return { done: true, value: undefined };
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      block = this.#used[0]!;
    }
    const value = block.bytes.subarray(block.taken, block.filled);
    block.taken = block.filled;
    return { done: false, value };
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** What was handed on last is not used any more. */
  #giveBack(): void {
    const [block] = this.#used;
    if (this.#used.length === 1 || block!.taken < block!.bytes.length) return;
    this.#used.shift();
    block!.filled = 0;
    block!.taken = 0;
    this.#free.push(block!);
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /** Never empty: reading pauses before the last block is full. */
  #room(): Uint8Array {
    const block = this.#used.at(-1)!;
    return block.bytes.subarray(block.filled);
  }

  /** Takes what was read into the block at hand; false if reading must pause. */
  #came(length: number): boolean {
    const block = this.#used.at(-1)!;
    block.filled += length;
    if (block.filled === block.bytes.length) {
      this.#used.push(this.#free.shift()!);
      this.#isPaused = this.#free.length === 0;
    }
    this.#wake();
    return !this.#isPaused;
  }

  #end(failure?: Error): void {
    this.#isAtEnd = true;
    this.#failure ??= failure;
    this.#wake();
  }
}

function newBlock(): Block {
  return { bytes: new Uint8Array(BLOCK_BYTES), filled: 0, taken: 0 };
}
