// What Swift cannot import from libssl and libcrypto: function-like macros and variadics. One line each, no logic.
#pragma once

#include <openssl/bio.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static inline int copenssl_init_without_exit_handler(void) { return OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); }

static inline int copenssl_context_set_versions(SSL_CTX *context, int lowest, int highest) {
  return SSL_CTX_set_min_proto_version(context, lowest) && SSL_CTX_set_max_proto_version(context, highest);
}
static inline void copenssl_context_set_mode(SSL_CTX *context, long mode) { SSL_CTX_set_mode(context, mode); }
static inline void copenssl_context_set_options(SSL_CTX *context) {
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
}
static inline void copenssl_context_forget_sessions(SSL_CTX *context) { SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); }
static inline int copenssl_context_set_groups(SSL_CTX *context, const char *list) { return (int)SSL_CTX_set1_groups_list(context, list); }
static inline void copenssl_context_set_max_chain_bytes(SSL_CTX *context, long bytes) { SSL_CTX_set_max_cert_list(context, bytes); }
static inline int copenssl_set_server_name(SSL *ssl, const char *name) { return (int)SSL_set_tlsext_host_name(ssl, name); }

static const unsigned long copenssl_rfc2253 = XN_FLAG_RFC2253;

static inline EVP_PKEY *copenssl_generate_p256(OSSL_LIB_CTX *library) { return EVP_PKEY_Q_keygen(library, NULL, "EC", "P-256"); }
static inline long copenssl_bio_contents(BIO *bio, char **data) { return BIO_get_mem_data(bio, data); }

// Deprecated since 3.0 in favour of contexts, which cost several times what they hash when a message has 100 bytes.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
static inline int copenssl_sha256_init(SHA256_CTX *state) { return SHA256_Init(state); }
static inline int copenssl_sha256_update(SHA256_CTX *state, const void *bytes, size_t count) { return SHA256_Update(state, bytes, count); }
static inline int copenssl_sha256_final(unsigned char *digest, SHA256_CTX *state) { return SHA256_Final(digest, state); }
static inline int copenssl_sha384_init(SHA512_CTX *state) { return SHA384_Init(state); }
static inline int copenssl_sha384_update(SHA512_CTX *state, const void *bytes, size_t count) { return SHA384_Update(state, bytes, count); }
static inline int copenssl_sha384_final(unsigned char *digest, SHA512_CTX *state) { return SHA384_Final(digest, state); }
#pragma clang diagnostic pop
