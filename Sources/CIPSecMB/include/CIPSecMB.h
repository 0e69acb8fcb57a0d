// AES-GCM of Intel's multi-buffer library, which Debian calls libipsec-mb.
#pragma once

#include <intel-ipsec-mb.h>

// What a processor must have for the library to take its VAES code; that this has passed its self-test; and that it
// leaves nothing secret in registers and on the stack.
static const uint64_t cipsecmb_vaes_features =
    IMB_CPUFLAGS_AVX512_T2 | IMB_FEATURE_SELF_TEST_PASS | IMB_FEATURE_SAFE_DATA;
