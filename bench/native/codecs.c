/* The codecs' C libraries. Their states are made once a call and reset for each cluster. */
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include "batch.h"

#define DEFLATE_LEVEL 6
#define ZSTD_LEVEL 3
#define WINDOW_BITS 12
#define MEMORY_LEVEL 9

/* Makes one cluster in `out`; returns its length, 0 when it did not succeed. */
typedef size_t Step(void *state, const uint8_t *in, size_t length, uint8_t *out, size_t room);

/* As sampleOf of kernels/batch.mjs. */
static double sample_of(const uint8_t *cluster) {
  return cluster[0] + cluster[CLUSTER_BYTES / 2] * 256.0 + cluster[CLUSTER_BYTES - 1] * 65536.0;
}

static double decode_all(const Batch *batch, Step *step, void *state) {
  const uint8_t *in = batch->bytes;
  double sum = 0;
  if (state == NULL || batch->out_length < CLUSTER_BYTES) return -1;
  for (size_t i = 0; i < batch->count; in += batch->lengths[i++]) {
    if (step(state, in, batch->lengths[i], batch->out, CLUSTER_BYTES) != CLUSTER_BYTES) return -1;
    sum += sample_of(batch->out);
  }
  return sum;
}

/* A cluster that does not shrink counts whole. */
static double encode_all(const Batch *batch, Step *step, void *state) {
  const uint8_t *in = batch->bytes;
  double total = 0;
  if (state == NULL || batch->out_length < CLUSTER_BYTES) return -1;
  for (size_t i = 0; i < batch->count; in += batch->lengths[i++]) {
    size_t length = step(state, in, batch->lengths[i], batch->out, CLUSTER_BYTES - 1);
    total += length == 0 ? batch->lengths[i] : length;
  }
  return total;
}

static void give(z_stream *stream, const uint8_t *in, size_t length, uint8_t *out, size_t room) {
  stream->next_in = (Bytef *)in;
  stream->avail_in = (uInt)length;
  stream->next_out = out;
  stream->avail_out = (uInt)room;
}

static size_t zlib_inflate_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                size_t room) {
  z_stream *stream = state;
  if (inflateReset(stream) != Z_OK) return 0;
  give(stream, in, length, out, room);
  return inflate(stream, Z_FINISH) == Z_STREAM_END ? stream->total_out : 0;
}

double zlib_inflate(const Batch *batch) {
  z_stream stream = {0};
  if (inflateInit2(&stream, -WINDOW_BITS) != Z_OK) return -1;
  double result = decode_all(batch, zlib_inflate_step, &stream);
  inflateEnd(&stream);
  return result;
}

static size_t zlib_deflate_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                size_t room) {
  z_stream *stream = state;
  if (deflateReset(stream) != Z_OK) return 0;
  give(stream, in, length, out, room);
  return deflate(stream, Z_FINISH) == Z_STREAM_END ? stream->total_out : 0;
}

double zlib_deflate(const Batch *batch) {
  z_stream stream = {0};
  int status = deflateInit2(&stream, DEFLATE_LEVEL, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL,
                            Z_DEFAULT_STRATEGY);
  if (status != Z_OK) return -1;
  double result = encode_all(batch, zlib_deflate_step, &stream);
  deflateEnd(&stream);
  return result;
}

static size_t libdeflate_inflate_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                      size_t room) {
  size_t made = 0;
  return libdeflate_deflate_decompress(state, in, length, out, room, &made) == 0 ? made : 0;
}

double libdeflate_inflate(const Batch *batch) {
  struct libdeflate_decompressor *state = libdeflate_alloc_decompressor();
  double result = decode_all(batch, libdeflate_inflate_step, state);
  libdeflate_free_decompressor(state);
  return result;
}

static size_t libdeflate_deflate_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                      size_t room) {
  return libdeflate_deflate_compress(state, in, length, out, room);
}

double libdeflate_deflate(const Batch *batch) {
  struct libdeflate_compressor *state = libdeflate_alloc_compressor(DEFLATE_LEVEL);
  double result = encode_all(batch, libdeflate_deflate_step, state);
  libdeflate_free_compressor(state);
  return result;
}

static size_t zstd_decompress_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                   size_t room) {
  size_t made = ZSTD_decompressDCtx(state, out, room, in, length);
  return ZSTD_isError(made) ? 0 : made;
}

double zstd_decompress(const Batch *batch) {
  ZSTD_DCtx *state = ZSTD_createDCtx();
  double result = decode_all(batch, zstd_decompress_step, state);
  ZSTD_freeDCtx(state);
  return result;
}

static size_t zstd_compress_step(void *state, const uint8_t *in, size_t length, uint8_t *out,
                                 size_t room) {
  size_t made = ZSTD_compressCCtx(state, out, room, in, length, ZSTD_LEVEL);
  return ZSTD_isError(made) ? 0 : made;
}

double zstd_compress(const Batch *batch) {
  ZSTD_CCtx *state = ZSTD_createCCtx();
  double result = encode_all(batch, zstd_compress_step, state);
  ZSTD_freeCCtx(state);
  return result;
}

const char *version_of_zlib(void) { return zlibVersion(); }
const char *version_of_libdeflate(void) { return LIBDEFLATE_VERSION_STRING; }
const char *version_of_libzstd(void) { return ZSTD_versionString(); }
