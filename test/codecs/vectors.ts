import { readFileSync } from 'node:fs';

/** A compressed stream taken from an image that qemu-io wrote. */
export interface PayloadVector {
  readonly id: string;
  readonly stream: Uint8Array;
  readonly plainLength: number;
  readonly sha256: string;
}

interface Row {
  readonly id: string;
  readonly kind: string;
  readonly hex: string;
  readonly decoded: {
    codec: string;
    stream_bytes: number;
    plain_length: number;
    plain_sha256: string;
  };
}

/** The `compressed_payload` vectors of one codec; at least one, or it throws. */
export function payloadVectors(codec: 'deflate-raw' | 'zstd'): PayloadVector[] {
  const file = new URL('../format/vectors.json', import.meta.url);
  const rows = (JSON.parse(readFileSync(file, 'utf8')) as { vectors: Row[] }).vectors;
  const found = rows.filter(
    (row) => row.kind === 'compressed_payload' && row.decoded.codec === codec,
  );
  if (found.length === 0) throw new Error(`no ${codec} vectors in ${file}`);
  return found.map(({ id, hex, decoded }) => ({
    id,
    stream: new Uint8Array(Buffer.from(hex, 'hex')).subarray(0, decoded.stream_bytes),
    plainLength: decoded.plain_length,
    sha256: decoded.plain_sha256,
  }));
}
