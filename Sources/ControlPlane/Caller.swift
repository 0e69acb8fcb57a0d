import Manifests

/// Who is on the other end of a call, as proved.
public enum Caller: Hashable, Sendable, CustomStringConvertible {
    case node(String)

    public var description: String {
        switch self {
        case .node(let name): "node \(name)"
        }
    }
}

/// `spiffe://<trust domain>/warren/node/<name>`: what a node's own certificate says. Unlike a workload's identity it can
/// open no tunnel, and no policy can name it.
public struct NodeIdentity: Hashable, Sendable {
    public let trustDomain: String
    public let node: String

    public init(trustDomain: String, node: String) {
        self.trustDomain = trustDomain
        self.node = node
    }

    /// Nil for anything else, other spellings included.
    public init?(uri: String) {
        let parts = uri.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "spiffe:", parts[1].isEmpty, !parts[2].isEmpty,
            parts[3] == "warren",
            parts[4] == "node", Names.problem(subdomain: String(parts[5])) == nil
        else { return nil }
        self.init(trustDomain: String(parts[2]), node: String(parts[5]))
    }

    public var uri: String { "spiffe://\(trustDomain)/warren/node/\(node)" }
}

/// Why a call is turned away (gRPC UNAUTHENTICATED: it does not say more than a stranger may know).
public struct AuthenticationFailure: Error, Equatable, CustomStringConvertible {
    public let description: String
}

/// Tells who calls, by a client certificate or a join token.
public struct Authenticator: Sendable {
    private let trustDomain: String
    private let tokenKey: [UInt8]

    public init(trustDomain: String, tokenKey: [UInt8]) {
        self.trustDomain = trustDomain
        self.tokenKey = tokenKey
    }

    /// - Parameters:
    ///   - certificateURIs: of a client certificate that the handshake verified; nil without one.
    ///   - authorization: the header of that name.
    ///   - now: seconds since the epoch.
    public func caller(
        certificateURIs: [String]?, authorization: String?, now: Int64
    ) throws(AuthenticationFailure) -> Caller {
        if let uris = certificateURIs {
            // A workload's certificate, stolen or not, opens nothing here: only a node's does.
            guard uris.count == 1, let identity = NodeIdentity(uri: uris[0]),
                identity.trustDomain == trustDomain
            else {
                throw AuthenticationFailure(description: "the client certificate is not a node's")
            }
            return .node(identity.node)
        }
        guard let authorization else {
            throw AuthenticationFailure(description: "neither a client certificate nor a token was presented")
        }
        let scheme = "bearer "
        guard authorization.utf8.count > scheme.utf8.count,
            authorization.prefix(scheme.count).lowercased() == scheme
        else { throw AuthenticationFailure(description: "the authorization header holds no bearer token") }
        // Files of tokens tend to end with a line feed, which some clients send along.
        let text = authorization.dropFirst(scheme.count).filter { !$0.isWhitespace }
        do {
            return .node(try JoinToken(verifying: String(text), key: tokenKey, now: now).node)
        } catch {
            throw AuthenticationFailure(description: error.description)
        }
    }
}
