// What our kernels are compared with in Node: the C of bench/native, Node itself and npm packages.
import zlib from 'node:zlib';
import { loadNative } from '../native/build.mjs';
import { unpack } from './batch.mjs';
import { DEFLATE } from './inputs.mjs';
import { decodingWith, encodingWith, packages } from './packages.mjs';

/** All, by the kind of work. C that cannot be compiled is left out, and `log` is told why. */
export function otherContenders(log) {
  const native = loadNative(log);
  return joined(native ? ofC(native) : {}, ofNode(), packages);
}

function ofNode() {
  const contenders = {
    difference: { 'Buffer.compare': comparingBuffers },
    refcounts: { 'Buffer.compare': comparingBuffers },
    inflate: { 'node:zlib': decodingWith((stream) => zlib.inflateRawSync(stream)) },
    deflate: { 'node:zlib': encodingWith((cluster) => zlib.deflateRawSync(cluster, DEFLATE)) },
  };
  if (zlib.zstdDecompressSync) {
    contenders.zstd = { 'node:zlib': decodingWith((stream) => zlib.zstdDecompressSync(stream)) };
    contenders.zstdEncode = {
      'node:zlib': encodingWith((cluster) => zlib.zstdCompressSync(cluster)),
    };
  }
  return contenders;
}

function comparingBuffers(batch) {
  const [a, b] = [batch.bytes, batch.bytes.slice()].map((bytes) => unpack({ ...batch, bytes }));
  return () => a.reduce((equal, piece, i) => equal + Number(Buffer.compare(piece, b[i]) === 0), 0);
}

function ofC(native) {
  const { zlib, libdeflate, libzstd } = native.versions;
  /** A call of the addon works on the whole batch. */
  const calling = (name) => (batch) => {
    const out = new Uint8Array(batch.outputBytes);
    return () => native[name](batch.bytes, batch.lengths, out, batch.limit);
  };
  const comparing = (batch) => {
    const copy = batch.bytes.slice();
    return () => native.memcmp(batch.bytes, batch.lengths, copy, 0);
  };
  const zero = { 'C, 8 bytes at a time': calling('zeroPlain') };
  if (native.zeroAvx2) zero['C, AVX2'] = calling('zeroAvx2');
  return {
    zero,
    difference: { 'C, memcmp': comparing },
    refcounts: { 'C, memcmp': comparing },
    l2: { 'C, scalar': calling('l2Decode') },
    l2Extended: { 'C, scalar': calling('l2DecodeExtended') },
    inflate: {
      [`C, zlib ${zlib}`]: calling('zlibInflate'),
      [`C, libdeflate ${libdeflate}`]: calling('libdeflateInflate'),
    },
    deflate: {
      [`C, zlib ${zlib}`]: calling('zlibDeflate'),
      [`C, libdeflate ${libdeflate}`]: calling('libdeflateDeflate'),
    },
    zstd: { [`C, libzstd ${libzstd}`]: calling('zstdDecompress') },
    zstdEncode: { [`C, libzstd ${libzstd}`]: calling('zstdCompress') },
  };
}

function joined(...sets) {
  const all = {};
  for (const [kind, contenders] of sets.flatMap(Object.entries)) {
    all[kind] = { ...all[kind], ...contenders };
  }
  return all;
}
