/** Compresses and decompresses single clusters for one value of the header's compression_type. */
export interface Codec {
  /** Value of compression_type in the header (format section 3): 0 deflate, 1 zstd. */
  readonly type: number;
  /** The name users type: `zlib` or `zstd`. */
  readonly name: 'zlib' | 'zstd';
  /**
   * Decodes one stream to exactly `output.length` bytes (one cluster, format section 8). `input` may
   * be longer than the stream: the last sector is shared with its neighbour. If `output` lies in
   * kernel memory, up to 320 bytes behind it are undefined afterwards: fill buffers in ascending order.
   * @throws Qcow2Error BAD_DATA: the stream is broken, too short, or produces too little
   */
  decompress(input: Uint8Array, output: Uint8Array): void;
  /**
   * Compresses one cluster into `output`; returns the stream's length in bytes, or -1 when it does
   * not fit (the cluster is then stored as it is).
   */
  compress(input: Uint8Array, output: Uint8Array): number;
}
