// HPACK of libnghttp2 (RFC 7541): only its nghttp2_hd_* functions are used; frames and streams are our own.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <nghttp2/nghttp2.h>
