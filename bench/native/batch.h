/* What one call works on: pieces packed in one buffer, so that a call from JavaScript costs nothing. */
#ifndef BATCH_H
#define BATCH_H

#include <stddef.h>
#include <stdint.h>

#define CLUSTER_BYTES 65536
#define CLUSTER_BITS 16

typedef struct {
  const uint8_t *bytes;
  const uint32_t *lengths; /* of the pieces in bytes */
  size_t count;
  uint8_t *out;
  size_t out_length;
  double limit; /* length of the file that tables point into */
} Batch;

/* A number that JavaScript compares with what the other contenders return; -1 is a failure. */
typedef double Operation(const Batch *batch);

/* codecs.c */
Operation zlib_inflate, zlib_deflate;
Operation libdeflate_inflate, libdeflate_deflate;
Operation zstd_decompress, zstd_compress;
const char *version_of_zlib(void), *version_of_libdeflate(void), *version_of_libzstd(void);

/* scans.c */
Operation zero_plain, zero_avx2, equal_memcmp;
int has_avx2(void);

/* l2.c */
Operation l2_decode, l2_decode_extended;

#endif
