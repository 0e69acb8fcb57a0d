import Address

/// One L4 authorization policy (`istio.security.Authorization`).
///
/// It matches when any rule does; a rule when all its clauses do; a clause when any of its matches does, or when it has
/// none; a match when every attribute that is set does, and never when none is set.
public struct Policy: Hashable, Sendable {
    public enum Action: Sendable { case allow, deny }
    /// Whom it applies to: every workload, those of its namespace, or those that name it.
    public enum Scope: Sendable { case global, namespace, workloadSelector }

    public struct Rule: Hashable, Sendable {
        public var clauses: [Clause]

        public init(clauses: [Clause]) {
            self.clauses = clauses
        }
    }

    public struct Clause: Hashable, Sendable {
        public var matches: [Match]

        public init(matches: [Match]) {
            self.matches = matches
        }
    }

    public var name: NamespacedName
    public var scope: Scope
    public var action: Action
    public var rules: [Rule]
    /// Only reported, never enforced.
    public var isDryRun: Bool

    public init(
        name: NamespacedName, scope: Scope, action: Action, rules: [Rule], isDryRun: Bool = false
    ) {
        self.name = name
        self.scope = scope
        self.action = action
        self.rules = rules
        self.isDryRun = isDryRun
    }
}

extension Policy {
    /// A set of conditions on one connection; within an attribute any value may hit, and no `not` value may.
    public struct Match: Hashable, Sendable {
        public var namespaces: [StringMatch] = []
        public var notNamespaces: [StringMatch] = []
        public var principals: [StringMatch] = []
        public var notPrincipals: [StringMatch] = []
        public var sourceIPs: [Prefix] = []
        public var notSourceIPs: [Prefix] = []
        public var destinationIPs: [Prefix] = []
        public var notDestinationIPs: [Prefix] = []
        public var destinationPorts: [UInt16] = []
        public var notDestinationPorts: [UInt16] = []
        public var serviceAccounts: [ServiceAccountMatch] = []
        public var notServiceAccounts: [ServiceAccountMatch] = []

        public init() {}

        /// Nothing is set: such a match never holds.
        public var isEmpty: Bool {
            namespaces.isEmpty && notNamespaces.isEmpty && principals.isEmpty && notPrincipals.isEmpty
                && sourceIPs.isEmpty && notSourceIPs.isEmpty && destinationIPs.isEmpty
                && notDestinationIPs.isEmpty && destinationPorts.isEmpty && notDestinationPorts.isEmpty
                && serviceAccounts.isEmpty && notServiceAccounts.isEmpty
        }
    }

    public enum StringMatch: Hashable, Sendable {
        case exact(String)
        case prefix(String)
        case suffix(String)
        /// Any value but none.
        case presence

        /// Compared byte for byte, so that no two spellings of a name are one to a policy.
        ///
        /// - Parameter value: empty when the connection has none.
        public func matches(_ value: String) -> Bool {
            switch self {
            case .exact(let text): text.hasBytes(of: value)
            case .prefix(let text): value.utf8.starts(with: text.utf8)
            case .suffix(let text): value.utf8.reversed().starts(with: text.utf8.reversed())
            case .presence: !value.isEmpty
            }
        }
    }

    /// A service account of any trust domain.
    public struct ServiceAccountMatch: Hashable, Sendable {
        public var namespace: String
        public var serviceAccount: String

        public init(namespace: String, serviceAccount: String) {
            self.namespace = namespace
            self.serviceAccount = serviceAccount
        }

        /// Compared byte for byte, as all names are.
        public func matches(_ peer: Identity) -> Bool {
            namespace.hasBytes(of: peer.namespace) && serviceAccount.hasBytes(of: peer.serviceAccount)
        }
    }
}

extension String {
    fileprivate func hasBytes(of other: String) -> Bool {
        // The first two are quick, and nearly always the answer; only the third knows two spellings from one.
        utf8.count == other.utf8.count && self == other && other.utf8.elementsEqual(utf8)
    }
}
