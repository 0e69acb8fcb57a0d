#include "CRE2.h"

#include <re2/re2.h>

struct warren_re2 {
    re2::RE2 pattern;
};

static re2::RE2::Options options(int64_t max_memory) {
    re2::RE2::Options result;
    result.set_log_errors(false);
    result.set_max_mem(max_memory);
    return result;
}

static re2::StringPiece piece(const char *text, size_t length) { return re2::StringPiece(text, length); }

warren_re2 *warren_re2_new(const char *text, size_t length, int64_t max_memory) {
    return new warren_re2{re2::RE2(piece(text, length), options(max_memory))};
}

void warren_re2_free(warren_re2 *pattern) { delete pattern; }

const char *warren_re2_error(const warren_re2 *pattern) {
    return pattern->pattern.ok() ? nullptr : pattern->pattern.error().c_str();
}

int warren_re2_program_size(const warren_re2 *pattern) { return pattern->pattern.ProgramSize(); }

bool warren_re2_matches(const warren_re2 *pattern, const char *text, size_t length) {
    return re2::RE2::FullMatchN(piece(text, length), pattern->pattern, nullptr, 0);
}

bool warren_re2_accepts_replacement(const warren_re2 *pattern, const char *text, size_t length) {
    std::string error;
    return pattern->pattern.CheckRewriteString(piece(text, length), &error);
}

void warren_re2_replace(
    const warren_re2 *pattern, const char *text, size_t length, const char *replacement, size_t replacement_length,
    void *context, void (*receive)(void *context, const char *bytes, size_t length)) {
    std::string result(text, length);
    re2::RE2::GlobalReplace(&result, pattern->pattern, piece(replacement, replacement_length));
    receive(context, result.data(), result.size());
}
