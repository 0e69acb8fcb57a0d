import Address
import Mesh
import Protobuf

private let scopes = EnumTable<Istio_Security_Scope, Policy.Scope>([
    .global: .global, .namespace: .namespace, .workloadSelector: .workloadSelector,
])
private let actions = EnumTable<Istio_Security_Action, Policy.Action>([.allow: .allow, .deny: .deny])

extension Policy {
    /// Takes a policy from the wire.
    ///
    /// - Throws: for every value that cannot be understood, fields of a later version included: a condition that is left
    ///   out changes whom the policy hits.
    public init(_ wire: Istio_Security_Authorization) throws(WireError) {
        self.init(
            name: try namespacedName(namespace: wire.namespace, name: wire.name, nameField: "name"),
            scope: try scopes.model(wire.scope, "scope"),
            action: try actions.model(wire.action, "action"),
            rules: try wire.groups.converted("groups") { (group) throws(WireError) in
                try refuseUnknownFields(of: group)
                return Rule(
                    clauses: try group.rules.converted("rules") { (rules) throws(WireError) in
                        try refuseUnknownFields(of: rules)
                        return Clause(
                            matches: try rules.matches.converted("matches") { (match) throws(WireError) in
                                try Match(match)
                            })
                    })
            },
            isDryRun: wire.dryRun)
    }

    /// What stands in for a policy that was refused while no earlier version of it is held: an allow that allows nobody,
    /// a deny that denies everybody in its scope. Leaving it out would open what it was to close.
    ///
    /// - Returns: nil when there is nothing to enforce: no usable name, or a dry run.
    public init?(closing wire: Istio_Security_Authorization) {
        guard let name = NamespacedName("\(wire.namespace)/\(wire.name)"), !wire.dryRun else { return nil }
        let action = actions.model(wire.action, or: .deny)
        self.init(
            name: name, scope: scopes.model(wire.scope, or: .namespace), action: action,
            rules: action == .allow ? [] : [Rule(clauses: [])])
    }
}

extension Policy.Match {
    init(_ wire: Istio_Security_Match) throws(WireError) {
        try refuseUnknownFields(of: wire)
        self.init()
        namespaces = try wire.namespaces.converted("namespaces", Policy.StringMatch.init)
        notNamespaces = try wire.notNamespaces.converted("not_namespaces", Policy.StringMatch.init)
        principals = try wire.principals.converted("principals", Policy.StringMatch.init)
        notPrincipals = try wire.notPrincipals.converted("not_principals", Policy.StringMatch.init)
        sourceIPs = try wire.sourceIps.converted("source_ips", Prefix.init)
        notSourceIPs = try wire.notSourceIps.converted("not_source_ips", Prefix.init)
        destinationIPs = try wire.destinationIps.converted("destination_ips", Prefix.init)
        notDestinationIPs = try wire.notDestinationIps.converted("not_destination_ips", Prefix.init)
        destinationPorts = try wire.destinationPorts.converted("destination_ports", matchedPort)
        notDestinationPorts = try wire.notDestinationPorts.converted("not_destination_ports", matchedPort)
        serviceAccounts = try wire.serviceAccounts.converted(
            "service_accounts", Policy.ServiceAccountMatch.init)
        notServiceAccounts = try wire.notServiceAccounts.converted(
            "not_service_accounts", Policy.ServiceAccountMatch.init)
    }
}

/// Fields of a later version may be conditions.
private func refuseUnknownFields(of message: some Message) throws(WireError) {
    guard message.unknownFields.data.isEmpty else {
        throw WireError("", "holds a field that this version does not know")
    }
}

private func matchedPort(_ number: UInt32) throws(WireError) -> UInt16 {
    try optionalPort(number, "") ?? 0
}

extension Prefix {
    fileprivate init(_ wire: Istio_Security_Address) throws(WireError) {
        try self.init(wire: wire.address, length: wire.length)
    }
}

extension Policy.StringMatch {
    fileprivate init(_ wire: Istio_Security_StringMatch) throws(WireError) {
        switch wire.matchType {
        case .exact(let text): self = .exact(text)
        case .prefix(let text): self = .prefix(text)
        case .suffix(let text): self = .suffix(text)
        case .presence: self = .presence
        case nil: throw WireError("match_type", "missing")
        }
    }
}

extension Policy.ServiceAccountMatch {
    fileprivate init(_ wire: Istio_Security_ServiceAccountMatch) throws(WireError) {
        guard !wire.namespace.isEmpty else { throw WireError("namespace", "missing") }
        guard !wire.serviceAccount.isEmpty else { throw WireError("serviceAccount", "missing") }
        self.init(namespace: wire.namespace, serviceAccount: wire.serviceAccount)
    }
}

extension Istio_Security_Authorization {
    public init(_ policy: Policy) {
        self.init()
        name = policy.name.name
        namespace = policy.name.namespace
        scope = scopes.wire(policy.scope)
        action = actions.wire(policy.action)
        groups = policy.rules.map { rule in
            var group = Istio_Security_Group()
            group.rules = rule.clauses.map { clause in
                var rules = Istio_Security_Rules()
                rules.matches = clause.matches.map(Istio_Security_Match.init)
                return rules
            }
            return group
        }
        dryRun = policy.isDryRun
    }
}

extension Istio_Security_Match {
    init(_ match: Policy.Match) {
        self.init()
        namespaces = match.namespaces.map(Istio_Security_StringMatch.init)
        notNamespaces = match.notNamespaces.map(Istio_Security_StringMatch.init)
        principals = match.principals.map(Istio_Security_StringMatch.init)
        notPrincipals = match.notPrincipals.map(Istio_Security_StringMatch.init)
        sourceIps = match.sourceIPs.map(Istio_Security_Address.init)
        notSourceIps = match.notSourceIPs.map(Istio_Security_Address.init)
        destinationIps = match.destinationIPs.map(Istio_Security_Address.init)
        notDestinationIps = match.notDestinationIPs.map(Istio_Security_Address.init)
        destinationPorts = match.destinationPorts.map(UInt32.init)
        notDestinationPorts = match.notDestinationPorts.map(UInt32.init)
        serviceAccounts = match.serviceAccounts.map(Istio_Security_ServiceAccountMatch.init)
        notServiceAccounts = match.notServiceAccounts.map(Istio_Security_ServiceAccountMatch.init)
    }
}

extension Istio_Security_StringMatch {
    fileprivate init(_ match: Policy.StringMatch) {
        self.init()
        switch match {
        case .exact(let text): exact = text
        case .prefix(let text): prefix = text
        case .suffix(let text): suffix = text
        case .presence: presence = Google_Protobuf_Empty()
        }
    }
}

extension Istio_Security_Address {
    fileprivate init(_ prefix: Prefix) {
        self.init()
        address = prefix.address.bytes
        length = UInt32(prefix.length)
    }
}

extension Istio_Security_ServiceAccountMatch {
    fileprivate init(_ match: Policy.ServiceAccountMatch) {
        self.init()
        namespace = match.namespace
        serviceAccount = match.serviceAccount
    }
}
