#pragma once
#include <jansson.h>

// Jansson's macros and inline functions, under names that an importer can call.
static inline int warren_json_type(const json_t *value) { return json_typeof(value); }
static inline int warren_json_is_true(const json_t *value) { return json_is_true(value); }
static inline void warren_json_release(json_t *value) { json_decref(value); }
static inline const char *warren_json_error_text(const json_error_t *error) { return error->text; }
static inline int warren_json_error_is_duplicate(const json_error_t *error) {
    return json_error_code(error) == json_error_duplicate_key;
}
