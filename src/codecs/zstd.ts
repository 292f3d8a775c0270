import { isQcow2Error } from '../errors.ts';
import { badStream } from './bad-stream.ts';
import type { Codec } from './codec.ts';
import type { ZstdBackend } from './zstd-backend.ts';
import {
  parseZstdFrame,
  ZSTD_BLOCK_MAX,
  ZSTD_WINDOW_MAX,
  type ZstdDataFrame,
} from './zstd-frame.ts';

/** Compression type 1: zstd frames (format section 8). */
export class ZstdCodec implements Codec {
  readonly type = 1;
  readonly name = 'zstd';
  readonly #backend: ZstdBackend;

  constructor(backend: ZstdBackend) {
    this.#backend = backend;
  }

  /**
   * Decodes frames until `output` is full; the last one must end exactly there. What follows it in
   * `input` is ignored.
   * @throws Qcow2Error BAD_DATA
   */
  decompress(input: Uint8Array, output: Uint8Array): void {
    let position = 0;
    let filled = 0;
    while (filled < output.length) {
      if (position === input.length) {
        throw badStream('zstd', `the frames hold ${filled} of ${output.length} bytes`);
      }
      const frame = parseZstdFrame(input, position);
      const end = position + frame.length;
      if (frame.kind === 'data') {
        const content = this.#decodeFrame(
          input.subarray(position, end),
          frame,
          output.length - filled,
        );
        output.set(content, filled);
        filled += content.length;
      }
      position = end;
    }
  }

  /** Returns at most `room` bytes. */
  #decodeFrame(bytes: Uint8Array, frame: ZstdDataFrame, room: number): Uint8Array {
    const { contentSize, windowSize } = frame;
    if (contentSize === undefined && windowSize > ZSTD_WINDOW_MAX) {
      throw badStream(
        'zstd',
        `a frame asks for a window of ${windowSize} bytes (128 MiB is the limit)`,
      );
    }
    if (contentSize !== undefined && contentSize > room) {
      throw badStream(
        'zstd',
        `a frame of ${contentSize} bytes where ${room} remain of the cluster`,
      );
    }
    let content: Uint8Array;
    try {
      content = this.#backend.decompressFrame(withSmallWindow(bytes, frame, room), room);
    } catch (cause) {
      if (isQcow2Error(cause)) throw cause;
      throw badStream('zstd', 'a frame is damaged or holds more than the cluster', cause);
    }
    if (content.length > room || (contentSize !== undefined && content.length !== contentSize)) {
      throw badStream(
        'zstd',
        `a frame decodes to ${content.length} bytes, not ${contentSize ?? room}`,
      );
    }
    return content;
  }

  compress(input: Uint8Array, output: Uint8Array): number {
    const frame = this.#backend.compressFrame(input);
    if (frame.length > output.length) return -1;
    output.set(frame);
    return frame.length;
  }
}

/**
 * Decoders allocate the window a frame asks for. No match of a valid frame reaches further back than
 * what is already decoded, so a window of the room that is left does as well; it is not made
 * smaller than a block, as windows limit blocks too.
 */
function withSmallWindow(bytes: Uint8Array, frame: ZstdDataFrame, room: number): Uint8Array {
  const exponent = Math.ceil(Math.log2(Math.max(room, ZSTD_BLOCK_MAX)));
  if (!frame.hasWindowDescriptor || frame.windowSize <= 2 ** exponent) return bytes;
  const copy = bytes.slice();
  copy[5] = (exponent - 10) << 3;
  return copy;
}
