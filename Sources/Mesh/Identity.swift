/// A workload's identity: `spiffe://<trustDomain>/ns/<namespace>/sa/<serviceAccount>` (SPIFFE ID §2, Istio's path).
///
/// One reference, for it is copied into every connection's record; its texts are made once.
public struct Identity: Hashable, Sendable {
    private final class Texts: Sendable {
        let trustDomain, namespace, serviceAccount, principal, uri: String

        init(_ trustDomain: String, _ namespace: String, _ serviceAccount: String) {
            self.trustDomain = trustDomain
            self.namespace = namespace
            self.serviceAccount = serviceAccount
            principal = "\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)"
            uri = "spiffe://\(principal)"
        }
    }

    private let texts: Texts

    public var trustDomain: String { texts.trustDomain }
    public var namespace: String { texts.namespace }
    public var serviceAccount: String { texts.serviceAccount }

    public init(trustDomain: String, namespace: String, serviceAccount: String) {
        texts = Texts(trustDomain, namespace, serviceAccount)
    }

    public static func == (a: Identity, b: Identity) -> Bool {
        a.texts === b.texts
            || a.trustDomain == b.trustDomain && a.namespace == b.namespace
                && a.serviceAccount == b.serviceAccount
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(texts.uri)
    }

    /// Parses the URI strictly: this scheme, exactly these five parts, none of them empty. Nil for anything else,
    /// percent signs, queries and fragments included: two spellings of one identity must not both be accepted.
    public init?(spiffe uri: String) {
        let scheme = "spiffe://"
        guard uri.utf8.count <= 2_048, uri.hasPrefix(scheme) else { return nil }
        let parts = uri.dropFirst(scheme.count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa",
            [parts[0], parts[2], parts[4]].allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(isPathByte) })
        else { return nil }
        self.init(
            trustDomain: String(parts[0]), namespace: String(parts[2]), serviceAccount: String(parts[4]))
    }

    /// The form that policies are written in, without the scheme.
    public var principal: String { texts.principal }

    /// The form that certificates carry.
    public var uri: String { texts.uri }
}

extension Identity: CustomStringConvertible {
    public var description: String { uri }
}

/// The bytes that SPIFFE ID §2.2 allows in a path segment.
private func isPathByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
        true
    default: false
    }
}
