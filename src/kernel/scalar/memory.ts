const PAGE_BYTES = 65536;

/** Memory of the TypeScript kernels: grows like WebAssembly's, by replacing the buffer. */
export class ScalarMemory {
  buffer: ArrayBuffer = new ArrayBuffer(PAGE_BYTES);
  u8 = new Uint8Array(this.buffer);
  view = new DataView(this.buffer);

  /**
   * Adds pages of 64 KiB; returns the number there were.
   * @throws RangeError no memory is left
   */
  grow(pages: number): number {
    const before = this.buffer.byteLength;
    const grown = new Uint8Array(before + pages * PAGE_BYTES);
    grown.set(this.u8);
    this.u8 = grown;
    this.buffer = grown.buffer;
    this.view = new DataView(this.buffer);
    return before / PAGE_BYTES;
  }
}
