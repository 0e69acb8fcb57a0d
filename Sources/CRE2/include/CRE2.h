#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// RE2, as far as routing needs it. A pattern is immutable once made, and may be matched on any thread.
#ifdef __cplusplus
extern "C" {
#endif

typedef struct warren_re2 warren_re2;

// Never null. max_memory bounds the compiled program and, in a match, the automaton that is made of it.
warren_re2 *warren_re2_new(const char *text, size_t length, int64_t max_memory);
void warren_re2_free(warren_re2 *pattern);
// Null when the pattern can be used, else what is wrong with it; lives as long as the pattern.
const char *warren_re2_error(const warren_re2 *pattern);
// In instructions.
int warren_re2_program_size(const warren_re2 *pattern);
bool warren_re2_matches(const warren_re2 *pattern, const char *text, size_t length);
// Whether a replacement's \0 to \9 are groups of the pattern.
bool warren_re2_accepts_replacement(const warren_re2 *pattern, const char *text, size_t length);
// Calls `receive` with `text` in which every match is replaced.
void warren_re2_replace(
    const warren_re2 *pattern, const char *text, size_t length, const char *replacement, size_t replacement_length,
    void *context, void (*receive)(void *context, const char *bytes, size_t length));

#ifdef __cplusplus
}
#endif
