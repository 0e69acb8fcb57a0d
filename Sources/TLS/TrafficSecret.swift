import COpenSSL

/// The cipher suites that we offer and take (RFC 8446 §B.4), as the record layer needs them.
enum RecordSuite: Sendable {
    case aes128
    case aes256

    /// - Parameter number: of the suite's registration.
    init?(number: UInt16) {
        switch number {
        case 0x1301: self = .aes128
        case 0x1302: self = .aes256
        default: return nil
        }
    }

    var keyByteCount: Int { self == .aes128 ? 16 : 32 }
    /// Length of the suite's hash, and so of its secrets.
    var secretByteCount: Int { self == .aes128 ? 32 : 48 }
    var digest: StaticString { self == .aes128 ? "SHA256" : "SHA384" }
    var cipher: OpaquePointer? {
        unsafe self == .aes128 ? Algorithms.shared.aes128 : Algorithms.shared.aes256
    }
}

/// What was fetched once for all records of the process.
@safe
private struct Algorithms: @unchecked Sendable {
    // @unchecked: set once; libcrypto only reads them.
    static let shared = Algorithms()

    let aes128: OpaquePointer?
    let aes256: OpaquePointer?
    let derivation: OpaquePointer?

    private init() {
        let library = unsafe Library.shared.context
        unsafe aes128 = EVP_CIPHER_fetch(library, "AES-128-GCM", nil)
        unsafe aes256 = EVP_CIPHER_fetch(library, "AES-256-GCM", nil)
        unsafe derivation = EVP_KDF_fetch(library, OSSL_KDF_NAME_TLS1_3_KDF, nil)
        ErrorQueue.clear()
    }
}

/// A traffic secret of one direction (RFC 8446 §7.2, §7.3). Wiped at its end.
@safe
struct TrafficSecret: ~Copyable {
    let suite: RecordSuite
    private let bytes: UnsafeMutableRawBufferPointer

    private init(_ suite: RecordSuite) {
        self.suite = suite
        unsafe bytes = .allocate(byteCount: suite.secretByteCount, alignment: 16)
    }

    /// - Parameter hex: the secret in hexadecimal digits.
    /// - Returns: nil unless there are exactly as many digits as the suite's secrets have.
    init?(_ suite: RecordSuite, hex: UnsafeRawBufferPointer) {
        self.init(suite)
        guard unsafe hex.count == 2 * bytes.count else { return nil }
        for index in unsafe 0..<bytes.count {
            guard let high = unsafe Self.digit(hex[2 * index]),
                let low = unsafe Self.digit(hex[2 * index + 1])
            else { return nil }
            unsafe bytes[index] = high << 4 | low
        }
    }

    deinit {
        unsafe OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        unsafe bytes.deallocate()
    }

    private static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
    func expand(_ label: StaticString, into target: UnsafeMutableRawBufferPointer) throws(TLSError) {
        ErrorQueue.clear()
        guard let context = unsafe EVP_KDF_CTX_new(Algorithms.shared.derivation) else {
            throw .library(ErrorQueue.take())
        }
        defer { unsafe EVP_KDF_CTX_free(context) }
        var mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY
        let isDone = unsafe withUnsafeMutablePointer(to: &mode) { mode in
            let parameters = unsafe [
                OSSL_PARAM_construct_int(Self.modeName.pointer, mode),
                OSSL_PARAM_construct_utf8_string(Self.digestName.pointer, suite.digest.pointer, 0),
                OSSL_PARAM_construct_octet_string(Self.keyName.pointer, bytes.baseAddress, bytes.count),
                Self.octets(Self.prefixName, Self.prefix), Self.octets(Self.labelName, label),
                OSSL_PARAM_construct_end(),
            ]
            return unsafe EVP_KDF_derive(context, target.baseAddress, target.count, parameters)
        }
        guard isDone == 1 else { throw .library(ErrorQueue.take()) }
    }

    private static func octets(_ name: StaticString, _ value: StaticString) -> OSSL_PARAM {
        unsafe OSSL_PARAM_construct_octet_string(name.pointer, value.pointer, value.utf8CodeUnitCount)
    }

    // Names of parameters (EVP_KDF-TLS13_KDF(7)), at addresses that stay.
    private static let modeName: StaticString = "mode"
    private static let digestName: StaticString = "digest"
    private static let keyName: StaticString = "key"
    private static let prefixName: StaticString = "prefix"
    private static let labelName: StaticString = "label"
    private static let prefix: StaticString = "tls13 "

    /// The secret of the next key (RFC 8446 §7.2).
    func next() throws(TLSError) -> TrafficSecret {
        let secret = TrafficSecret(suite)
        try unsafe expand("traffic upd", into: secret.bytes)
        return secret
    }
}

extension StaticString {
    /// libcrypto takes it as mutable and only reads it.
    fileprivate var pointer: UnsafeMutablePointer<CChar> {
        unsafe UnsafeMutableRawPointer(mutating: utf8Start).assumingMemoryBound(to: CChar.self)
    }
}
