import Address
import Documents
import Manifests
import Mesh

/// What an entry of a rule comes to.
enum PartialMatch {
    /// It holds for every connection: nothing of it is left to ask.
    case always
    /// It holds for none.
    case never
    case match(Policy.Match)

    init(_ match: Policy.Match) {
        // On the wire a match with nothing set never holds; here it means the opposite.
        self = match.isEmpty ? .always : .match(match)
    }
}

/// What the entries of a list come to, any of which is enough.
enum PartialClause {
    case always
    case never
    case anyOf([Policy.Match])

    init(_ entries: [PartialMatch]) {
        var matches: [Policy.Match] = []
        for entry in entries {
            switch entry {
            case .always:
                self = .always
                return
            case .never: continue
            case .match(let match): matches.append(match)
            }
        }
        self = matches.isEmpty ? .never : .anyOf(matches)
    }
}

/// Attributes of layer 4, in the direction that is safe for the action.
struct AttributeConversion {
    private let isDeny: Bool
    /// The policy's own: what a service account without namespace is in.
    private let namespace: String
    /// Values that could not be carried over, and what that does.
    private(set) var problems: [String] = []

    init(isDeny: Bool, namespace: String) {
        self.isDeny = isDeny
        self.namespace = namespace
    }

    mutating func match(_ operation: AuthorizationPolicy.Operation) -> PartialMatch {
        var match = Policy.Match()
        guard set(operation.ports, "ports", port, on: &match, \.destinationPorts, \.notDestinationPorts)
        else {
            return .never
        }
        return PartialMatch(match)
    }

    /// The sources of a rule as alternatives, each a list of clauses. One alternative with one clause, but for sources
    /// that ask for a principal and a trust domain at once: both are read off the same name, so each takes a clause,
    /// and clauses of their own take a rule of their own.
    mutating func alternatives(_ sources: [AuthorizationPolicy.Source]) -> [[Policy.Clause]] {
        guard !sources.isEmpty else { return [[]] }
        let entries = sources.map { conjunction($0) }
        if entries.allSatisfy({ $0.count == 1 }) {
            switch PartialClause(entries.flatMap { $0 }) {
            case .always: return [[]]
            case .never: return []
            case .anyOf(let matches): return [[Policy.Clause(matches: matches)]]
            }
        }
        return entries.compactMap { parts in
            var clauses: [Policy.Clause] = []
            for part in parts {
                switch part {
                case .always: continue
                case .never: return nil
                case .match(let match): clauses.append(Policy.Clause(matches: [match]))
                }
            }
            return clauses
        }
    }

    /// One or two matches that all have to hold.
    private mutating func conjunction(_ source: AuthorizationPolicy.Source) -> [PartialMatch] {
        var match = Policy.Match()
        guard set(source.principals, "principals", pattern, on: &match, \.principals, \.notPrincipals),
            set(source.namespaces, "namespaces", pattern, on: &match, \.namespaces, \.notNamespaces),
            set(
                source.serviceAccounts, "serviceAccounts", serviceAccount, on: &match, \.serviceAccounts,
                \.notServiceAccounts),
            set(source.ipBlocks, "ipBlocks", { Prefix($0) }, on: &match, \.sourceIPs, \.notSourceIPs)
        else { return [.never] }
        guard !source.trustDomains.isEmpty else { return [PartialMatch(match)] }
        var trust = Policy.Match()
        guard set(source.trustDomains, "trustDomains", trustDomain, on: &trust, \.principals, \.notPrincipals)
        else {
            return [.never]
        }
        if match.principals.isEmpty {
            match.principals = trust.principals
            match.notPrincipals += trust.notPrincipals
            return [PartialMatch(match)]
        }
        match.notPrincipals += trust.notPrincipals
        trust.notPrincipals = []
        return trust.isEmpty ? [PartialMatch(match)] : [PartialMatch(match), PartialMatch(trust)]
    }

    mutating func match(_ condition: AuthorizationPolicy.Condition) -> PartialMatch {
        var match = Policy.Match()
        let values = condition.values
        let isPossible =
            switch condition.key {
            case .sourceIP: set(values, "source.ip", { Prefix($0) }, on: &match, \.sourceIPs, \.notSourceIPs)
            case .sourceNamespace:
                set(values, "source.namespace", pattern, on: &match, \.namespaces, \.notNamespaces)
            case .sourcePrincipal:
                set(values, "source.principal", pattern, on: &match, \.principals, \.notPrincipals)
            case .sourceServiceAccount:
                set(
                    values, "source.serviceAccount", serviceAccount, on: &match, \.serviceAccounts,
                    \.notServiceAccounts)
            case .sourceTrustDomain:
                set(values, "source.trustDomain", trustDomain, on: &match, \.principals, \.notPrincipals)
            case .destinationIP:
                set(
                    values, "destination.ip", { Prefix($0) }, on: &match, \.destinationIPs,
                    \.notDestinationIPs)
            case .destinationPort:
                set(values, "destination.port", port, on: &match, \.destinationPorts, \.notDestinationPorts)
            default:
                // Layer 7: a DENY does not look at it; an ALLOW with it is left out before it comes here.
                isDeny
            }
        return isPossible ? PartialMatch(match) : .never
    }

    /// Sets an attribute's two lists.
    ///
    /// - Returns: false when the attribute can hold for no connection.
    private mutating func set<Value>(
        _ values: AuthorizationPolicy.Values, _ name: String, _ convert: (String) -> Value?,
        on match: inout Policy.Match, _ any: WritableKeyPath<Policy.Match, [Value]>,
        _ none: WritableKeyPath<Policy.Match, [Value]>
    ) -> Bool {
        let wanted = values.any.map { ($0, convert($0)) }
        let excluded = values.none.map { ($0, convert($0)) }
        for (text, value) in wanted + excluded where value == nil {
            let effect = isDeny ? "more is denied" : "less is allowed"
            problems.append("\(name): \(quoted(text)) cannot be asked at layer 4; without it \(effect)")
        }
        match[keyPath: any] = wanted.compactMap(\.1)
        match[keyPath: none] = excluded.compactMap(\.1)
        if isDeny {
            // A value that is lacking would let its bearer through: then all are denied.
            if match[keyPath: any].count < wanted.count { match[keyPath: any] = [] }
            return true
        }
        // An exception that is lacking would let its bearer in.
        return match[keyPath: none].count == excluded.count
            && (wanted.isEmpty || !match[keyPath: any].isEmpty)
    }

    /// `x`, `x*`, `*x` and `*`; other wildcards cannot be said on the wire.
    private func pattern(_ text: String) -> Policy.StringMatch? {
        if text == "*" { return .presence }
        if text.hasPrefix("*") {
            let rest = text.dropFirst()
            return rest.contains("*") ? nil : .suffix(String(rest))
        }
        if text.hasSuffix("*") {
            let rest = text.dropLast()
            return rest.contains("*") ? nil : .prefix(String(rest))
        }
        return text.isEmpty || text.contains("*") ? nil : .exact(text)
    }

    /// A trust domain is how a principal begins, up to its first slash.
    private func trustDomain(_ text: String) -> Policy.StringMatch? {
        switch pattern(text) {
        case .presence: .presence
        case .exact(let name): .prefix(name + "/")
        case .prefix(let start) where !start.contains("/"): .prefix(start)
        case .prefix, .suffix, nil: nil
        }
    }

    private func serviceAccount(_ text: String) -> Policy.ServiceAccountMatch? {
        guard !text.contains("*") else { return nil }
        if let name = NamespacedName(text) {
            return Policy.ServiceAccountMatch(namespace: name.namespace, serviceAccount: name.name)
        }
        guard !text.isEmpty, !text.contains("/") else { return nil }
        return Policy.ServiceAccountMatch(namespace: namespace, serviceAccount: text)
    }

    private func port(_ text: String) -> UInt16? {
        parsePort(text).flatMap { $0 == 0 ? nil : $0 }
    }
}
