/// How one kind of connection is secured. TLS 1.3 only, always.
///
/// Why each default:
/// - Cipher suites: AES-GCM only. A client offers AES-128 first, a server follows its client. ztunnel offers AES-256
///   first; both are beyond breaking, and AES-128 costs 10 to 15 % less a byte.
/// - Groups X25519, P-256, P-384: one key share (X25519) goes out; peers built without it ask again.
/// - No tickets, no resumption, no early data: a revoked or rotated identity is looked at in every handshake, and
///   making two tickets costs more than a fifth of one. Resumption would halve a handshake (0.34 of 0.65 ms of CPU, both
///   sides), of which pooled tunnels have few; a resumed session carries its peer's identity over unchecked.
/// - No SNI and no host names between workloads: an identity is what counts there.
public struct TLSConfiguration: Sendable {
    public enum Verification: Sendable {
        /// A server that demands a client certificate with an identity of one of these trust domains.
        case clientIdentity(trustDomains: Set<String>)
        /// A client that demands one of the identities that its session expects.
        case expectedIdentity
        /// A server that verifies a client certificate if one is presented, and leaves the rest to its caller.
        case optionalClient
        /// A client that reaches a server by DNS name or address, as its session says.
        case serverName
    }

    public let verification: Verification
    /// What we prove ourselves with; servers must have one.
    public let bundle: CertificateBundle?
    public let roots: [Certificate]
    public var revocations: RevocationList = .empty
    /// Protocols in order of preference; the peer must take one of them. Empty: none is negotiated.
    public var applicationProtocols = ["h2"]
    /// Bytes that may wait in a session's output.
    public var outputLimit = 16 << 20
    /// Records sealed under one key before it is renewed: AES-GCM is good for 2^24.5 full ones (RFC 8446 §5.5).
    public var recordsPerKey = 1 << 23
    /// Who makes the records behind the handshake.
    public var records = RecordLayer.own

    /// The listener of tunnels.
    ///
    /// - Parameter trustDomains: those of clients; by ztunnel's rule just our own.
    public static func meshServer(
        _ bundle: CertificateBundle, roots: [Certificate], trustDomains: Set<String>
    ) -> TLSConfiguration {
        TLSConfiguration(
            verification: .clientIdentity(trustDomains: trustDomains), bundle: bundle, roots: roots)
    }

    /// The side that opens tunnels; each session says whom it expects.
    public static func meshClient(_ bundle: CertificateBundle, roots: [Certificate]) -> TLSConfiguration {
        TLSConfiguration(verification: .expectedIdentity, bundle: bundle, roots: roots)
    }

    /// xDS and CA: callers prove themselves by a token or a certificate of one of the roots.
    public static func controlServer(_ bundle: CertificateBundle, clientRoots: [Certificate])
        -> TLSConfiguration
    {
        TLSConfiguration(verification: .optionalClient, bundle: bundle, roots: clientRoots)
    }

    /// A caller of xDS and CA; each session says which server name it calls.
    public static func controlClient(_ bundle: CertificateBundle?, roots: [Certificate]) -> TLSConfiguration {
        TLSConfiguration(verification: .serverName, bundle: bundle, roots: roots)
    }

    private init(verification: Verification, bundle: CertificateBundle?, roots: [Certificate]) {
        self.verification = verification
        self.bundle = bundle
        self.roots = roots
    }

    /// Whether this side accepts connections.
    var isServer: Bool {
        switch verification {
        case .clientIdentity, .optionalClient: true
        case .expectedIdentity, .serverName: false
        }
    }
}
