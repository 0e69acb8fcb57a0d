import COpenSSL

/// Proof that whoever made a message holds a key (HMAC with SHA-256, RFC 2104, FIPS 180-4).
public enum MessageAuthentication {
    public static let byteCount = 32

    /// - Returns: 32 bytes.
    public static func code(for message: [UInt8], key: [UInt8]) throws(TLSError) -> [UInt8] {
        var length = 0
        let code = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, filled in
            let isDone = unsafe EVP_Q_mac(
                Library.shared.context, "HMAC", nil, "SHA256", nil, key, key.count, message, message.count,
                buffer.baseAddress,
                byteCount,
                &length)
            filled = unsafe isDone == nil ? 0 : length
        }
        guard code.count == byteCount else { throw .library("HMAC-SHA256 is not available") }
        return code
    }

    /// Compares without telling by its time where the two differ. Lengths are no secret.
    public static func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        guard a.count == b.count else { return false }
        return zip(a, b).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
