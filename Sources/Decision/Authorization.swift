import Address
import Mesh

/// What is known of a connection when it asks to come in.
public struct Connection: Hashable, Sendable {
    /// From a verified certificate; nil for plaintext.
    public var peer: Identity?
    /// The TCP peer's address.
    public var source: IPAddress
    /// The workload's address and the port of the application, not the tunnel's.
    public var destination: SocketAddress

    public init(peer: Identity?, source: IPAddress, destination: SocketAddress) {
        self.peer = peer
        self.source = source
        self.destination = destination
    }
}

/// The outcome of `authorize`, with what decided it.
public enum Verdict: Hashable, Sendable {
    public enum Ground: Hashable, Sendable {
        case noAllowPolicies
        case policy(NamespacedName)
    }

    case allowed(Ground)
    case denied(CloseReason)

    public var isAllowed: Bool {
        if case .allowed = self { true } else { false }
    }
}

/// May this connection come in? A missing policy denies; then any deny; then any allow; without allows everyone may
/// (Istio's order; ztunnel lets a missing policy pass).
///
/// Pure: the same inputs give the same verdict and the same reason, on the data path, in `explain` and in a rehearsal.
public func authorize(_ connection: Connection, by policies: PolicySet, trace: inout Trace) -> Verdict {
    let facts = Facts(connection)
    if trace.isRecording {
        for policy in policies.dryRun where policy.matches(facts) {
            trace.add("dry run: \(policy.action) policy \(policy.name) matches; it is not enforced")
        }
    }
    if let missing = policies.missing.first {
        trace.add("policy \(missing) is attached to the workload but has not arrived: refused")
        return .denied(.missingPolicy(missing))
    }
    if let name = policies.deny.first(matching: facts) {
        trace.add("deny policy \(name) matches")
        return .denied(.deniedByPolicy(name))
    }
    let denyCount = policies.deny.policies.count
    if denyCount > 0 { trace.add("none of \(denyCount) deny policies matches") }
    let allowCount = policies.allow.policies.count
    guard allowCount > 0 else {
        trace.add("no allow policy applies: allowed")
        return .allowed(.noAllowPolicies)
    }
    if let name = policies.allow.first(matching: facts) {
        trace.add("allow policy \(name) matches")
        return .allowed(.policy(name))
    }
    trace.add("none of \(allowCount) allow policies matches: refused")
    return .denied(.unmatchedByAllow)
}

/// A connection in the words of policies, made once for all of them.
struct Facts {
    let peer: Identity?
    /// Empty when there is no identity.
    let principal, namespace: String
    let source: IPAddress
    let destination: SocketAddress

    init(_ connection: Connection) {
        peer = connection.peer
        principal = connection.peer?.principal ?? ""
        namespace = connection.peer?.namespace ?? ""
        source = connection.source
        destination = connection.destination
    }
}

// Looked at where they are: a copy of a policy or of a match counts the references to each of its lists up and down.

extension PolicyList {
    fileprivate func first(matching facts: Facts) -> NamespacedName? {
        first(peer: facts.peer, source: facts.source, destination: facts.destination) { $0.matches(facts) }
    }
}

extension Policy {
    func matches(_ facts: Facts) -> Bool {
        let rules = rules.span
        for index in rules.indices where rules[index].matches(facts) { return true }
        return false
    }
}

extension Policy.Rule {
    func matches(_ facts: Facts) -> Bool {
        let clauses = clauses.span
        for index in clauses.indices where !clauses[index].matches(facts) { return false }
        return true
    }
}

extension Policy.Clause {
    func matches(_ facts: Facts) -> Bool {
        let matches = matches.span
        for index in matches.indices where matches[index].matches(facts) { return true }
        return matches.isEmpty
    }
}

extension Policy.Match {
    func matches(_ facts: Facts) -> Bool {
        !isEmpty
            && holds(namespaces, notNamespaces) { $0.matches(facts.namespace) }
            && holds(principals, notPrincipals) { facts.peer != nil && $0.matches(facts.principal) }
            && holds(sourceIPs, notSourceIPs) { $0.contains(facts.source) }
            && holds(destinationIPs, notDestinationIPs) { $0.contains(facts.destination.address) }
            && holds(destinationPorts, notDestinationPorts) { $0 == facts.destination.port }
            && holds(serviceAccounts, notServiceAccounts) { account in
                facts.peer.map { account.matches($0) } ?? false
            }
    }
}

/// One attribute: any of its values hits, or it has none; and no `not` value hits.
@inline(__always)
private func holds<Value>(_ values: [Value], _ notValues: [Value], _ hits: (Value) -> Bool) -> Bool {
    (values.isEmpty || any(of: values, hits)) && !any(of: notValues, hits)
}

@inline(__always)
private func any<Value>(of values: [Value], _ hits: (Value) -> Bool) -> Bool {
    let values = values.span
    for index in values.indices where hits(values[index]) { return true }
    return false
}
