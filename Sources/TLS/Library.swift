import COpenSSL

/// The libcrypto context that every key, certificate and session of the process lives in. Everything in this module
/// names it: nothing may use libcrypto's process-wide default context, whose algorithms come and go with what others
/// load into it.
///
/// libcrypto 3.0 decodes a public key by trying every decoder of every algorithm it has: 147 µs a certificate, and
/// 43 % of a mutual handshake. So this context holds one built-in provider that passes on the default provider's
/// implementations, but only of what a mesh's handshakes, keys and certificates meet: P-256 and P-384, RSA (foreign
/// roots), Ed25519, X25519, and the digests, ciphers, MACs and derivations of TLS 1.3. Should anything of it fail, the process-wide default context serves, only slower.
@safe
struct Library: @unchecked Sendable {
    // @unchecked: set once, and an OSSL_LIB_CTX locks itself.
    static let shared = Library()

    /// nil is libcrypto's default context.
    let context: OpaquePointer?
    let aes: AES.Implementation

    private init() {
        // At exit libcrypto would free what loops that still run are using; the kernel frees it as well.
        _ = copenssl_init_without_exit_handler()
        unsafe context = Library.filtered()
        aes = unsafe context == nil || FilteredProvider.shared.fastAES == nil ? .libcrypto : .ipsecMB
    }

    private static func filtered() -> OpaquePointer? {
        guard unsafe FilteredProvider.shared.source != nil, let context = unsafe OSSL_LIB_CTX_new() else {
            return nil
        }
        guard unsafe OSSL_PROVIDER_add_builtin(context, "warren", startFilteredProvider) == 1,
            unsafe OSSL_PROVIDER_load(context, "warren") != nil
        else {
            unsafe OSSL_LIB_CTX_free(context)
            return nil
        }
        return unsafe context
    }

    enum Digest: String {
        case sha1 = "SHA1"
        case sha256 = "SHA256"

        var byteCount: Int { self == .sha1 ? 20 : 32 }
    }

    func digest(_ kind: Digest, of bytes: [UInt8]) throws(TLSError) -> [UInt8] {
        ErrorQueue.clear()
        var digest = [UInt8](repeating: 0, count: kind.byteCount)
        guard unsafe EVP_Q_digest(context, kind.rawValue, nil, bytes, bytes.count, &digest, nil) == 1 else {
            throw .library(ErrorQueue.take())
        }
        return digest
    }
}
