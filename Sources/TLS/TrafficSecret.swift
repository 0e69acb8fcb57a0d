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

    private init() {
        let library = unsafe Library.shared.context
        unsafe aes128 = EVP_CIPHER_fetch(library, "AES-128-GCM", nil)
        unsafe aes256 = EVP_CIPHER_fetch(library, "AES-256-GCM", nil)
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

    /// - Returns: nil unless there are exactly as many bytes as the suite's secrets have.
    init?(_ suite: RecordSuite, _ secret: UnsafeRawBufferPointer) {
        self.init(suite)
        guard unsafe secret.count == bytes.count else { return nil }
        unsafe bytes.copyMemory(from: secret)
    }

    deinit {
        unsafe OPENSSL_cleanse(bytes.baseAddress, bytes.count)
        unsafe bytes.deallocate()
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
    ///
    /// - Parameter label: of those of the RFC, which all have room.
    func expand(_ label: StaticString, into target: UnsafeMutableRawBufferPointer) {
        let isDone = unsafe KeySchedule.expand(
            suite, UnsafeRawBufferPointer(bytes), prefix: Self.prefix.bytes, label: label.bytes,
            context: UnsafeRawBufferPointer(start: nil, count: 0), into: target)
        precondition(isDone, "a label or a key of TLS 1.3 is short")
    }

    private static let prefix: StaticString = "tls13 "

    /// The secret of the next key (RFC 8446 §7.2).
    func next() -> TrafficSecret {
        let secret = TrafficSecret(suite)
        unsafe expand("traffic upd", into: secret.bytes)
        return secret
    }
}

extension StaticString {
    fileprivate var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: utf8Start, count: utf8CodeUnitCount)
    }
}
