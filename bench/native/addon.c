/* Node-API side of the native contenders: every operation is called as (bytes, lengths, out, limit). */
#include <node_api.h>

#include "batch.h"

typedef struct {
  const char *name;
  Operation *run;
} Entry;

static const Entry ENTRIES[] = {
    {"zlibInflate", zlib_inflate},
    {"zlibDeflate", zlib_deflate},
    {"libdeflateInflate", libdeflate_inflate},
    {"libdeflateDeflate", libdeflate_deflate},
    {"zstdDecompress", zstd_decompress},
    {"zstdCompress", zstd_compress},
    {"zeroPlain", zero_plain},
    {"memcmp", equal_memcmp},
    {"l2Decode", l2_decode},
    {"l2DecodeExtended", l2_decode_extended},
};
static const Entry AVX2 = {"zeroAvx2", zero_avx2};

static int view_of(napi_env env, napi_value value, napi_typedarray_type wanted, void **data,
                   size_t *length) {
  napi_typedarray_type type;
  napi_value buffer;
  size_t offset;
  if (napi_get_typedarray_info(env, value, &type, length, data, &buffer, &offset) != napi_ok) return 0;
  return type == wanted;
}

static napi_value call(napi_env env, napi_callback_info info) {
  napi_value arguments[4], result;
  size_t given = 4, total;
  void *entry, *bytes, *lengths, *out;
  Batch batch;
  if (napi_get_cb_info(env, info, &given, arguments, NULL, &entry) != napi_ok || given != 4 ||
      !view_of(env, arguments[0], napi_uint8_array, &bytes, &total) ||
      !view_of(env, arguments[1], napi_uint32_array, &lengths, &batch.count) ||
      !view_of(env, arguments[2], napi_uint8_array, &out, &batch.out_length) ||
      napi_get_value_double(env, arguments[3], &batch.limit) != napi_ok) {
    napi_throw_type_error(env, NULL, "call it with (Uint8Array, Uint32Array, Uint8Array, number)");
    return NULL;
  }
  batch.bytes = bytes;
  batch.lengths = lengths;
  batch.out = out;
  for (size_t i = 0; i < batch.count; i++) {
    if (batch.lengths[i] > total) {
      napi_throw_range_error(env, NULL, "the pieces are longer than the buffer");
      return NULL;
    }
    total -= batch.lengths[i];
  }
  napi_create_double(env, ((const Entry *)entry)->run(&batch), &result);
  return result;
}

static void add(napi_env env, napi_value exports, const Entry *entry) {
  napi_value function;
  napi_create_function(env, entry->name, NAPI_AUTO_LENGTH, call, (void *)entry, &function);
  napi_set_named_property(env, exports, entry->name, function);
}

static void add_version(napi_env env, napi_value versions, const char *name, const char *version) {
  napi_value text;
  napi_create_string_utf8(env, version, NAPI_AUTO_LENGTH, &text);
  napi_set_named_property(env, versions, name, text);
}

NAPI_MODULE_INIT() {
  napi_value versions;
  for (size_t i = 0; i < sizeof ENTRIES / sizeof ENTRIES[0]; i++) add(env, exports, &ENTRIES[i]);
  if (has_avx2()) add(env, exports, &AVX2);
  napi_create_object(env, &versions);
  add_version(env, versions, "zlib", version_of_zlib());
  add_version(env, versions, "libdeflate", version_of_libdeflate());
  add_version(env, versions, "libzstd", version_of_libzstd());
  napi_set_named_property(env, exports, "versions", versions);
  return exports;
}
