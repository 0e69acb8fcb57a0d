/// Why a handshake, a record, a key or a certificate was refused. Every case carries what a person needs to act.
public enum TLSError: Error, Hashable, Sendable {
    /// The peer had to present a certificate and did not.
    case noPeerCertificate
    /// No path from the peer's certificate to one of the roots; libcrypto's reason.
    case untrusted(String)
    /// A certificate of the peer's chain has expired (seconds since the epoch).
    case expired(notAfter: UnixTime)
    /// A certificate of the peer's chain is not valid yet (seconds since the epoch): look at the clocks.
    case notYetValid(notBefore: UnixTime)
    /// A certificate of the peer's chain is on a revocation list.
    case revoked(serial: String)
    /// The server's certificate names neither this DNS name nor this address.
    case wrongServerName(expected: String)
    /// Not exactly one URI SAN, or one that is not `spiffe://td/ns/…/sa/…`; the URIs that were found.
    case noSPIFFEIdentity(uris: [String])
    /// The peer belongs to another trust domain.
    case wrongTrustDomain(got: String, expected: [String])
    /// The server proved an identity, but none of those that the destination may have.
    case unexpectedIdentity(got: String, expected: [String])
    /// ALPN ended with something else than what we speak; nil when the peer offered none.
    case wrongApplicationProtocol(got: String?)
    /// The peer ended the connection with a fatal alert (RFC 8446 §6.2).
    case alert(String)
    /// The stream ended without close_notify: whatever followed is lost, or was cut off by somebody.
    case truncated
    /// The peer broke the protocol: how.
    case protocolFailure(String)
    /// More sealed bytes wait than one session may hold.
    case outputLimit(byteCount: Int)
    /// A PEM, DER, key, request or chain that cannot be used: what it is and why.
    case malformed(String, reason: String)
    /// libcrypto could not do what must always work (out of memory, no algorithm).
    case library(String)
}

extension TLSError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .noPeerCertificate: "the peer presented no certificate"
        case .untrusted(let reason): "the peer's certificate is not trusted: \(reason)"
        case .expired(let time): "the peer's certificate expired at \(time) s since the epoch"
        case .notYetValid(let time): "the peer's certificate is not valid before \(time) s since the epoch"
        case .revoked(let serial): "the peer's certificate \(serial) is revoked"
        case .wrongServerName(let name): "the server's certificate does not name \(name)"
        case .noSPIFFEIdentity(let uris):
            uris.isEmpty
                ? "the peer's certificate has no SPIFFE identity"
                : "the peer's certificate has no single SPIFFE identity: \(uris.joined(separator: ", "))"
        case .wrongTrustDomain(let got, let expected):
            "the peer is of trust domain \(got), not of \(expected.joined(separator: ", "))"
        case .unexpectedIdentity(let got, let expected):
            "the peer is \(got), expected \(expected.joined(separator: ", "))"
        case .wrongApplicationProtocol(let got): "the peer speaks \(got ?? "no protocol that it names")"
        case .alert(let text): "the peer refused: \(text)"
        case .truncated: "the stream ended without close_notify"
        case .protocolFailure(let reason): "TLS failed: \(reason)"
        case .outputLimit(let byteCount): "more than \(byteCount) sealed bytes wait to be sent"
        case .malformed(let what, let reason): "\(what): \(reason)"
        case .library(let reason): "libcrypto failed: \(reason)"
        }
    }
}

/// Seconds since the epoch, as certificates count them.
public typealias UnixTime = Int64
