import COpenSSL

/// Owns one reference to an `EVP_PKEY`.
@safe
final class KeyHandle: @unchecked Sendable {
    // @unchecked: the key is never changed after its making, and its reference count is atomic.
    let pointer: OpaquePointer

    init(owning pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }
    deinit { unsafe EVP_PKEY_free(pointer) }
}

/// A private key. Never logged, never described; leaves the process only by `pem()`.
public struct PrivateKey: Sendable {
    let handle: KeyHandle

    /// A new P-256 key: what workload certificates are made for (the fastest to sign and to verify that all peers know).
    public static func generate() throws(TLSError) -> PrivateKey {
        ErrorQueue.clear()
        guard let key = unsafe copenssl_generate_p256(Library.shared.context) else {
            throw .library(ErrorQueue.take())
        }
        return unsafe PrivateKey(handle: KeyHandle(owning: key))
    }

    /// Reads the first private key of a text: PKCS#8, SEC 1 or PKCS#1, not encrypted; EC, RSA or Ed25519.
    public init(pem: String) throws(TLSError) {
        let blocks = try PEM.blocks(in: pem)
        guard let block = blocks.first(where: { $0.label.hasSuffix("PRIVATE KEY") }) else {
            throw .malformed("private key", reason: "the text holds none")
        }
        guard block.label != "ENCRYPTED PRIVATE KEY" else {
            throw .malformed("private key", reason: "it is encrypted")
        }
        ErrorQueue.clear()
        let key = unsafe block.der.withUnsafeBytes { bytes in
            var cursor = unsafe bytes.bindMemory(to: UInt8.self).baseAddress
            return unsafe d2i_AutoPrivateKey_ex(nil, &cursor, bytes.count, Library.shared.context, nil)
        }
        guard let key = unsafe key else { throw .malformed("private key", reason: ErrorQueue.take()) }
        unsafe handle = KeyHandle(owning: key)
        // libcrypto reads others too, by its older code, and fails only when they are to sign.
        switch unsafe EVP_PKEY_get_base_id(key) {
        case EVP_PKEY_EC, EVP_PKEY_RSA, EVP_PKEY_RSA_PSS, EVP_PKEY_ED25519: break
        default: throw .malformed("private key", reason: "neither EC, RSA nor Ed25519")
        }
    }

    /// PKCS#8 as PEM. Whoever writes it to a file gives that file mode 0600.
    public func pem() throws(TLSError) -> String {
        ErrorQueue.clear()
        guard let info = unsafe EVP_PKEY2PKCS8(handle.pointer) else { throw .library(ErrorQueue.take()) }
        defer { unsafe PKCS8_PRIV_KEY_INFO_free(info) }
        let der = try unsafe encoded { unsafe i2d_PKCS8_PRIV_KEY_INFO(info, $0) }
        return PEM.encode("PRIVATE KEY", der)
    }

    /// The other half of the pair.
    public var publicKey: PublicKey { PublicKey(handle: handle) }

    private init(handle: KeyHandle) { self.handle = handle }
}

/// A public key, of a request or of a certificate.
public struct PublicKey: Sendable, Equatable {
    let handle: KeyHandle

    public static func == (left: PublicKey, right: PublicKey) -> Bool {
        unsafe EVP_PKEY_eq(left.handle.pointer, right.handle.pointer) == 1
    }

    /// Refuses the kinds that an authority does not certify: anything but P-256, P-384, Ed25519 and RSA of 2048 to
    /// 4096 bits. The upper bound keeps a verification cheap, the lower one is today's minimum.
    func requireCertifiable() throws(TLSError) {
        let key = unsafe handle.pointer
        let bits = unsafe EVP_PKEY_get_bits(key)
        switch unsafe EVP_PKEY_get_base_id(key) {
        case EVP_PKEY_EC:
            var explicit: Int32 = 0
            unsafe _ = EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &explicit)
            var name = [CChar](repeating: 0, count: 64)
            var length = 0
            guard explicit == 0, unsafe EVP_PKEY_get_group_name(key, &name, name.count, &length) == 1 else {
                throw .malformed("public key", reason: "its curve has no name")
            }
            let group = String(decoding: name.prefix(length).map(UInt8.init(bitPattern:)), as: UTF8.self)
            guard group == "prime256v1" || group == "secp384r1" else {
                throw .malformed("public key", reason: "curve \(group) is neither P-256 nor P-384")
            }
        case EVP_PKEY_RSA:
            guard (2048...4096).contains(bits) else {
                throw .malformed("public key", reason: "RSA of \(bits) bits is outside 2048 to 4096")
            }
        case EVP_PKEY_ED25519: break
        default: throw .malformed("public key", reason: "neither EC, RSA nor Ed25519")
        }
    }
}

/// The DER that an `i2d_` function writes, which must not be empty.
func encoded(
    _ write: (UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?) -> Int32
) throws(TLSError) -> [UInt8] {
    var start: UnsafeMutablePointer<UInt8>? = nil
    let count = unsafe write(&start)
    guard count > 0, let start = unsafe start else { throw .library(ErrorQueue.take()) }
    // The bytes may be a private key.
    defer { unsafe CRYPTO_clear_free(start, Int(count), "TLS", 0) }
    return unsafe Array(UnsafeBufferPointer(start: start, count: Int(count)))
}
