import Compiler
import Mesh
import TLS

/// Decides which certificates a caller gets, and makes them.
///
/// What a certificate says is what the caller is entitled to, never what its request asks for: a node gets the identities
/// of the live, enrolled pods that are bound to it, and its own; a waypoint that of its service account, and its own.
public struct CertificateIssuer: Sendable {
    public struct Refusal: Error, Equatable, CustomStringConvertible {
        public enum Kind: Sendable {
            /// The request is no request (gRPC INVALID_ARGUMENT).
            case invalid
            /// The caller is known and not entitled (PERMISSION_DENIED).
            case notEntitled
            /// The authority failed (INTERNAL).
            case failed
        }

        public let kind: Kind
        public let description: String
    }

    public struct Issued: Sendable {
        public let uri: String
        public let certificate: Certificate
        /// PEM: the leaf, each intermediate, and last all roots in one element.
        public let chain: [String]
    }

    public let authority: CertificateAuthority
    public let trustDomain: String
    /// Seconds: what is granted at most, and when nothing is asked for.
    public let longestLife: Int64

    public init(authority: CertificateAuthority, trustDomain: String, longestLife: Int64 = 86_400) {
        self.authority = authority
        self.trustDomain = trustDomain
        self.longestLife = longestLife
    }

    /// - Parameters:
    ///   - request: PKCS#10 in PEM.
    ///   - impersonated: the SPIFFE URI of a workload; nil asks for the caller's own certificate.
    ///   - life: seconds; 0 or less is the longest.
    public func issue(
        _ request: String, to caller: Caller, impersonating impersonated: String?, life: Int64,
        _ resources: MeshResources, now: UnixTime = .now
    ) throws(Refusal) -> Issued {
        let uri = try entitledURI(of: caller, impersonating: impersonated, resources)
        let key: PublicKey
        do {
            key = try CertificateRequest(pem: request).publicKey
        } catch {
            throw Refusal(kind: .invalid, description: "the certificate request is refused: \(error)")
        }
        let certificate: Certificate
        do {
            certificate = try authority.sign(
                key, uri: uri, validity: life > 0 ? min(life, longestLife) : longestLife, now: now)
        } catch {
            throw Refusal(kind: .failed, description: "the authority cannot sign: \(error)")
        }
        let roots = authority.roots.map(\.pem).joined()
        return Issued(
            uri: uri, certificate: certificate, chain: authority.chain(for: certificate).map(\.pem) + [roots])
    }

    /// What the caller may be certified as.
    func entitledURI(
        of caller: Caller, impersonating impersonated: String?, _ resources: MeshResources
    ) throws(Refusal) -> String {
        guard caller.isPart(of: resources) else {
            throw Refusal(kind: .notEntitled, description: "\(caller) is not part of the configuration")
        }
        guard let impersonated else { return caller.uri(trustDomain: trustDomain) }
        guard let identity = Identity(spiffe: impersonated) else {
            throw Refusal(kind: .invalid, description: "the identity asked for is not a workload's SPIFFE ID")
        }
        guard identity.trustDomain == trustDomain, isEntitled(caller, to: identity, resources) else {
            let reason =
                switch caller {
                case .node: "no live, enrolled pod of \(caller) has the identity \(identity)"
                case .waypoint:
                    "no live pod of \(caller) has the identity \(identity), or a captured pod has it too"
                }
            throw Refusal(kind: .notEntitled, description: reason)
        }
        return identity.uri
    }

    private func isEntitled(_ caller: Caller, to identity: Identity, _ resources: MeshResources) -> Bool {
        switch caller {
        case .node(let name): resources.identities[name]?.contains(identity) ?? false
        case .waypoint(let name): resources.waypoints[name]?.identities.contains(identity) ?? false
        }
    }
}
