/** A part of a `Blob` that is read as a whole, into memory that is used again. */
export class BlobWindow {
  /** What the part holds; fails as reading it does. */
  readonly bytes: Promise<Uint8Array>;
  readonly #free: ArrayBuffer[];
  #users = 0;
  #isDropped = false;

  /**
   * @param part of the blob
   * @param length of the part in bytes
   * @param free memory for parts; what this window takes comes back when it is dropped
   * @param most bytes of each of these
   */
  constructor(part: Blob, length: number, free: ArrayBuffer[], most: number) {
    this.#free = free;
    this.bytes = this.#use(() => fill(part, length, free.pop() ?? new ArrayBuffer(most)));
  }

  /** Copies bytes from `from` on. */
  copy(from: number, into: Uint8Array): Promise<unknown> {
    return this.#use(async () => {
      const bytes = await this.bytes;
      into.set(bytes.subarray(from, from + into.length));
      return bytes;
    });
  }

  /** It is not asked any more; its memory is free when those who wait have got what they want. */
  drop(): void {
    this.#isDropped = true;
    this.#giveBack();
  }

  async #use(work: () => Promise<Uint8Array>): Promise<Uint8Array> {
    this.#users++;
    try {
      return await work();
    } finally {
      this.#users--;
      this.#giveBack();
    }
  }

  #giveBack(): void {
    if (!this.#isDropped || this.#users > 0) return;
    this.#isDropped = false;
    this.bytes.then(
      ({ buffer }) => this.#free.push(buffer as ArrayBuffer),
      () => undefined,
    );
  }
}

/**
 * Engines take their time to see that memory is not used any more: what is read into new memory each
 * time takes hundreds of megabytes.
 */
async function fill(part: Blob, length: number, memory: ArrayBuffer): Promise<Uint8Array> {
  const reader = byteReader(part);
  if (reader === undefined) return readWhole(part, length);
  let view = new Uint8Array(memory);
  for (let filled = 0; filled < length; ) {
    const { value, done } = await reader.read(view.subarray(filled, length));
    if (done) throw shortened();
    filled += value.length;
    // The memory that was handed over comes back under another name.
    view = new Uint8Array(value.buffer);
  }
  await reader.cancel();
  return view.subarray(0, length);
}

/** @throws Error the part is not as long as it was */
export async function readWhole(part: Blob, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(await part.arrayBuffer());
  if (bytes.length !== length) throw shortened();
  return bytes;
}

function shortened(): Error {
  return new Error('it has become shorter');
}

/** Not everywhere blobs can be read into memory that is there already. */
function byteReader(part: Blob): ReadableStreamBYOBReader | undefined {
  try {
    return part.stream().getReader({ mode: 'byob' });
  } catch {
    return undefined;
  }
}
