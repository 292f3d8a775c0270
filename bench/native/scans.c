/* Zero detection and comparison in C. */
#include <string.h>

#include "batch.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

static double count_zero(const Batch *batch, int (*is_zero)(const uint8_t *, size_t)) {
  const uint8_t *at = batch->bytes;
  double found = 0;
  for (size_t i = 0; i < batch->count; at += batch->lengths[i++]) {
    found += is_zero(at, batch->lengths[i]);
  }
  return found;
}

static int is_zero_plain(const uint8_t *at, size_t length) {
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    uint64_t word;
    memcpy(&word, at + i, 8);
    if (word != 0) return 0;
  }
  for (; i < length; i++) {
    if (at[i] != 0) return 0;
  }
  return 1;
}

double zero_plain(const Batch *batch) { return count_zero(batch, is_zero_plain); }

#ifdef __x86_64__

int has_avx2(void) { return __builtin_cpu_supports("avx2") != 0; }

/* Four vectors at a time, as much as hides the branch. */
__attribute__((target("avx2"))) static int is_zero_avx2(const uint8_t *at, size_t length) {
  size_t i = 0;
  for (; i + 128 <= length; i += 128) {
    const __m256i *p = (const __m256i *)(at + i);
    __m256i a = _mm256_or_si256(_mm256_loadu_si256(p), _mm256_loadu_si256(p + 1));
    __m256i b = _mm256_or_si256(_mm256_loadu_si256(p + 2), _mm256_loadu_si256(p + 3));
    __m256i all = _mm256_or_si256(a, b);
    if (!_mm256_testz_si256(all, all)) return 0;
  }
  return is_zero_plain(at + i, length - i);
}

double zero_avx2(const Batch *batch) { return count_zero(batch, is_zero_avx2); }

#else

int has_avx2(void) { return 0; }
double zero_avx2(const Batch *batch) { return zero_plain(batch); }

#endif

/* Pieces that equal those of `out`. */
double equal_memcmp(const Batch *batch) {
  size_t at = 0;
  double equal = 0;
  for (size_t i = 0; i < batch->count; at += batch->lengths[i++]) {
    if (at + batch->lengths[i] > batch->out_length) return -1;
    equal += memcmp(batch->bytes + at, batch->out + at, batch->lengths[i]) == 0;
  }
  return equal;
}
