import Compiler
import Manifests
import Mesh

/// Who is on the other end of a call, as proved.
public enum Caller: Hashable, Sendable, CustomStringConvertible {
    case node(String)
    /// By namespace and name of its Gateway; every replica of a waypoint is the same caller.
    case waypoint(NamespacedName)

    public var description: String {
        switch self {
        case .node(let name): "node \(name)"
        case .waypoint(let name): "waypoint \(name)"
        }
    }

    /// The node whose pods the caller may learn of; nil for a waypoint.
    var node: String? {
        if case .node(let name) = self { name } else { nil }
    }

    /// What it is sent beyond what everybody is.
    var subscriber: Subscriber {
        switch self {
        case .node(let name): .node(name)
        case .waypoint(let name): .waypoint(name)
        }
    }

    /// What the caller's own certificate says. Unlike a workload's identity it can open no tunnel, and no policy can name it.
    func uri(trustDomain: String) -> String {
        switch self {
        case .node(let name): NodeIdentity(trustDomain: trustDomain, node: name).uri
        case .waypoint(let name): WaypointIdentity(trustDomain: trustDomain, waypoint: name).uri
        }
    }

    /// The name of its token's file. No object's name has an underscore, so that no two callers share one.
    var tokenFile: String {
        switch self {
        case .node(let name): name
        case .waypoint(let name): "waypoint-\(name.namespace)_\(name.name)"
        }
    }

    /// Whether the configuration knows of the caller.
    func isPart(of resources: MeshResources) -> Bool {
        switch self {
        case .node(let name): resources.nodes.contains(name)
        case .waypoint(let name): resources.waypoints[name] != nil
        }
    }
}

extension MeshResources {
    /// Everybody that may call.
    var callers: Set<Caller> {
        Set(nodes.map(Caller.node)).union(waypoints.keys.map(Caller.waypoint))
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

/// `spiffe://<trust domain>/warren/waypoint/<namespace>/<name>`: what a waypoint proves itself with to the control component.
/// Its tunnels are opened with the identity of its service account, which is another certificate.
public struct WaypointIdentity: Hashable, Sendable {
    public let trustDomain: String
    public let waypoint: NamespacedName

    public init(trustDomain: String, waypoint: NamespacedName) {
        self.trustDomain = trustDomain
        self.waypoint = waypoint
    }

    /// Nil for anything else, other spellings included.
    public init?(uri: String) {
        let parts = uri.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 7, parts[0] == "spiffe:", parts[1].isEmpty, !parts[2].isEmpty,
            parts[3] == "warren", parts[4] == "waypoint", Names.problem(label: String(parts[5])) == nil,
            Names.problem(subdomain: String(parts[6])) == nil
        else { return nil }
        self.init(
            trustDomain: String(parts[2]),
            waypoint: NamespacedName(namespace: String(parts[5]), name: String(parts[6])))
    }

    public var uri: String {
        "spiffe://\(trustDomain)/warren/waypoint/\(waypoint.namespace)/\(waypoint.name)"
    }
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
            // A workload's certificate, stolen or not, opens nothing here: only a node's or a waypoint's own does.
            if uris.count == 1 {
                if let identity = NodeIdentity(uri: uris[0]), identity.trustDomain == trustDomain {
                    return .node(identity.node)
                }
                if let identity = WaypointIdentity(uri: uris[0]), identity.trustDomain == trustDomain {
                    return .waypoint(identity.waypoint)
                }
            }
            throw AuthenticationFailure(
                description: "the client certificate is neither a node's nor a waypoint's")
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
            return try JoinToken(verifying: String(text), key: tokenKey, now: now).caller
        } catch {
            throw AuthenticationFailure(description: error.description)
        }
    }
}
