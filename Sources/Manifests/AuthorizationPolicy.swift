import Documents

/// `security.istio.io` AuthorizationPolicy, the whole of its schema: who may do what, at layer 4 and at layer 7.
///
/// Which part is enforced where is the compiler's business.
public struct AuthorizationPolicy: Hashable, Sendable {
    public enum Action: String, CaseIterable, Sendable {
        case allow = "ALLOW"
        case deny = "DENY"
        case audit = "AUDIT"
        case custom = "CUSTOM"
    }

    /// Any of its sources and any of its operations, under all of its conditions. Empty parts ask for nothing.
    public struct Rule: Hashable, Sendable {
        public var from: [Source]
        public var to: [Operation]
        public var when: [Condition]
        public var position: Position
    }

    /// Values that are looked for and values that must not be there.
    public struct Values: Hashable, Sendable {
        public var any: [String]
        public var none: [String]

        public init(any: [String] = [], none: [String] = []) {
            self.any = any
            self.none = none
        }

        public var isEmpty: Bool { any.isEmpty && none.isEmpty }
    }

    /// `from.source`: every attribute that is set has to hold.
    public struct Source: Hashable, Sendable {
        public var principals = Values()
        public var requestPrincipals = Values()
        public var namespaces = Values()
        public var serviceAccounts = Values()
        public var trustDomains = Values()
        public var ipBlocks = Values()
        public var remoteIPBlocks = Values()

        public init() {}
    }

    /// `to.operation`: every attribute that is set has to hold.
    public struct Operation: Hashable, Sendable {
        public var hosts = Values()
        public var ports = Values()
        public var methods = Values()
        public var paths = Values()

        public init() {}
    }

    public struct Condition: Hashable, Sendable {
        public var key: ConditionKey
        public var values: Values
        public var position: Position
    }

    /// `targetRefs`: the service, gateway or gateway class that it is for. Such a policy is a waypoint's.
    public struct TargetReference: Hashable, Sendable {
        public var group: String
        public var kind: String
        public var name: String
    }

    public var meta: ObjectMeta
    public var selector: WorkloadSelector?
    public var targets: [TargetReference]
    public var action: Action
    /// Of a CUSTOM action.
    public var provider: String?
    public var rules: [Rule]
    /// Annotation `istio.io/dry-run`: only reported.
    public var isDryRun: Bool

    public var isForWorkloads: Bool { !(selector?.matchLabels.isEmpty ?? true) }
}

/// The attribute that a `when` condition is about.
public enum ConditionKey: Hashable, Sendable {
    case sourceIP, remoteIP, sourceNamespace, sourcePrincipal, sourceServiceAccount, sourceTrustDomain
    case destinationIP, destinationPort
    case connectionSNI
    case requestHeader(String)
    case requestAuthPrincipal, requestAuthAudiences, requestAuthPresenter
    /// The way into the claims: `request.auth.claims[realm][roles]`.
    case requestAuthClaim([String])
    case experimentalEnvoyFilter(String)

    /// Nil for what Istio does not know either.
    public init?(_ text: String) {
        switch text {
        case "source.ip": self = .sourceIP
        case "remote.ip": self = .remoteIP
        case "source.namespace": self = .sourceNamespace
        case "source.principal": self = .sourcePrincipal
        case "source.serviceAccount": self = .sourceServiceAccount
        case "source.trustDomain": self = .sourceTrustDomain
        case "destination.ip": self = .destinationIP
        case "destination.port": self = .destinationPort
        case "connection.sni": self = .connectionSNI
        case "request.auth.principal": self = .requestAuthPrincipal
        case "request.auth.audiences": self = .requestAuthAudiences
        case "request.auth.presenter": self = .requestAuthPresenter
        default:
            if let names = Self.subscripts(of: text, after: "request.headers"), names.count == 1 {
                self = .requestHeader(names[0].lowercased())
            } else if let names = Self.subscripts(of: text, after: "request.auth.claims") {
                self = .requestAuthClaim(names)
            } else if text.hasPrefix("experimental.envoy.filters."), text.hasSuffix("]"), text.contains("[") {
                self = .experimentalEnvoyFilter(text)
            } else {
                return nil
            }
        }
    }

    /// `["a", "b"]` of `prefix[a][b]`; nil unless there is at least one, and nothing else.
    private static func subscripts(of text: String, after prefix: String) -> [String]? {
        guard text.hasPrefix(prefix + "["), text.hasSuffix("]") else { return nil }
        let inner = text.dropFirst(prefix.count + 1).dropLast()
        var names: [String] = []
        for part in inner.split(separator: "[", omittingEmptySubsequences: false) {
            let isLast = names.count == inner.count(where: { $0 == "[" })
            let name = isLast ? part : part.hasSuffix("]") ? part.dropLast() : ""
            guard !name.isEmpty, !name.contains("]") else { return nil }
            names.append(String(name))
        }
        return names
    }

    /// Whether a connection alone tells: the other keys need a request, which only a waypoint sees.
    public var isLayer4: Bool {
        switch self {
        case .sourceIP, .sourceNamespace, .sourcePrincipal, .sourceServiceAccount, .sourceTrustDomain,
            .destinationIP,
            .destinationPort:
            true
        default: false
        }
    }
}
