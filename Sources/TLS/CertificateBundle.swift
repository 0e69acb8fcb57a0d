import COpenSSL

/// What one side proves itself with: a key and the chain that certifies it. Which roots it trusts is another matter.
public struct CertificateBundle: Sendable {
    public let key: PrivateKey
    /// The leaf, then the intermediates in the order of issue. The root is not sent: whoever trusts it has it.
    public let chain: [Certificate]

    public var leaf: Certificate { chain[0] }

    /// - Parameter chain: the leaf first; certificates that issued themselves are left out.
    /// - Throws: `malformed` when the chain is empty, too long, or its leaf is not of this key.
    public init(key: PrivateKey, chain: [Certificate]) throws(TLSError) {
        guard let leaf = chain.first else { throw .malformed("certificate chain", reason: "it is empty") }
        guard chain.count <= Self.maximumLength else {
            throw .malformed("certificate chain", reason: "more than \(Self.maximumLength) certificates")
        }
        guard leaf.publicKey == key.publicKey else {
            throw .malformed("certificate chain", reason: "its first certificate is of another key")
        }
        self.key = key
        self.chain = [leaf] + chain.dropFirst().filter { !$0.isSelfIssued }
    }

    /// Certificates in a chain, ours and a peer's.
    static let maximumLength = 8
}
