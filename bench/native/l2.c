/* L2 tables to runs, an entry at a time, with the checks and the records of the kernels (version 3, no
   data file, attributes not asked for). */
#include <string.h>

#include "batch.h"

#define OFFSET_MASK 0x00fffffffffffe00u
#define COMPRESSED_FLAG (1ull << 62)
#define ZERO_FLAG 1u
#define SUBCLUSTERS 32

enum { UNALLOCATED, ZERO_PLAIN, ZERO_ALLOCATED, DATA, COMPRESSED, INVALID, UNALLOCATED_SUBCLUSTER };
enum { UNALIGNED = 1, PAST_END = 5, ALLOC_AND_ZERO = 6, ALLOC_WITHOUT_OFFSET = 7, WITH_BITMAP = 8 };

typedef struct {
  uint32_t meta, first; /* kind below aux; a run ends where the next one begins */
  double host;
} Run;

typedef struct {
  Run *out;
  size_t count, capacity;
  uint32_t kind; /* of the last run */
  uint64_t next; /* host offset at which it goes on */
  uint64_t end;  /* of the file */
} Runs;

static uint64_t load(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return __builtin_bswap64(value);
}

static void append(Runs *runs, uint32_t kind, uint32_t first, uint32_t aux, uint64_t host) {
  runs->kind = kind;
  if (runs->count < runs->capacity) {
    runs->out[runs->count++] = (Run){kind | aux << 3, first, (double)host};
  }
}

/* Joins the last run or starts one; `bytes` is the length in the file, 0 where there is no place. */
static inline void extend(Runs *runs, uint32_t kind, uint32_t first, uint64_t host, uint64_t bytes) {
  if (runs->kind != kind || (bytes != 0 && runs->next != host)) append(runs, kind, first, 0, host);
  runs->next = host + bytes;
}

static void compressed(Runs *runs, uint64_t entry, uint64_t bitmap, uint32_t first) {
  const unsigned bits = 70 - CLUSTER_BITS;
  uint64_t offset = entry & ((1ull << bits) - 1);
  uint32_t sectors = (uint32_t)(entry >> bits) & ((1u << (CLUSTER_BITS - 8)) - 1);
  uint32_t length = (sectors + 1) * 512 - (offset & 511);
  if (bitmap != 0) append(runs, INVALID, first, WITH_BITMAP, offset);
  else if (offset >= runs->end) append(runs, INVALID, first, PAST_END, offset);
  else append(runs, COMPRESSED, first, length, offset);
}

/* The last run ends at `unit`. */
static void finish(Runs *runs, uint32_t unit) { runs->out[runs->count].first = unit; }

static void standard(Runs *runs, const uint8_t *table, size_t length) {
  for (size_t i = 0; i < length / 8; i++) {
    uint64_t entry = load(table + i * 8), host = entry & OFFSET_MASK;
    uint32_t zero = entry & ZERO_FLAG;
    if (entry & COMPRESSED_FLAG) compressed(runs, entry, 0, i);
    else if (host & (CLUSTER_BYTES - 1)) append(runs, INVALID, i, UNALIGNED, host);
    else if (host && !zero && host >= runs->end) append(runs, INVALID, i, PAST_END, host);
    else if (host) extend(runs, zero ? ZERO_ALLOCATED : DATA, i, host, CLUSTER_BYTES);
    else extend(runs, zero ? ZERO_PLAIN : UNALLOCATED, i, 0, 0);
  }
  finish(runs, length / 8);
}

static uint32_t fault_of(const Runs *runs, uint64_t host, uint32_t alloc, uint32_t zero) {
  if (!host) return alloc ? ALLOC_WITHOUT_OFFSET : 0;
  if (alloc & zero) return ALLOC_AND_ZERO;
  if (host & (CLUSTER_BYTES - 1)) return UNALIGNED;
  return alloc && host >= runs->end ? PAST_END : 0;
}

static void extended(Runs *runs, const uint8_t *table, size_t length) {
  const uint64_t unit_bytes = CLUSTER_BYTES / SUBCLUSTERS;
  for (size_t i = 0; i < length / 16; i++) {
    uint64_t entry = load(table + i * 16), bitmap = load(table + i * 16 + 8);
    uint64_t host = entry & OFFSET_MASK;
    uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
    uint32_t first = i * SUBCLUSTERS;
    if (entry & COMPRESSED_FLAG) {
      compressed(runs, entry, bitmap, first);
      continue;
    }
    uint32_t fault = fault_of(runs, host, alloc, zero);
    if (fault) {
      append(runs, INVALID, first, fault, host);
      continue;
    }
    for (unsigned k = 0, units; k < SUBCLUSTERS; k += units) {
      uint32_t a = (alloc >> k) & 1, z = (zero >> k) & 1;
      uint64_t changes = (alloc ^ (0 - a)) | (zero ^ (0 - z)) | (1ull << SUBCLUSTERS);
      units = (unsigned)__builtin_ctzll(changes >> k);
      if (!host) extend(runs, z ? ZERO_PLAIN : UNALLOCATED, first + k, 0, 0);
      else extend(runs, a ? DATA : z ? ZERO_ALLOCATED : UNALLOCATED_SUBCLUSTER, first + k,
                  host + k * unit_bytes, units * unit_bytes);
    }
  }
  finish(runs, length / 16 * SUBCLUSTERS);
}

static double decode_all(const Batch *batch, void (*decode)(Runs *, const uint8_t *, size_t)) {
  const uint8_t *at = batch->bytes;
  double total = 0;
  for (size_t i = 0; i < batch->count; at += batch->lengths[i++]) {
    Runs runs = {(Run *)batch->out, 0, batch->out_length / sizeof(Run) - 1, INVALID, 0,
                 (uint64_t)batch->limit};
    decode(&runs, at, batch->lengths[i]);
    total += runs.count;
  }
  return total;
}

double l2_decode(const Batch *batch) { return decode_all(batch, standard); }
double l2_decode_extended(const Batch *batch) { return decode_all(batch, extended); }
