import Address

/// Policies in the order of their names, with an index to those of their rules that can hold for a connection.
///
/// The index only leaves out: whether a rule holds, the rule itself is asked.
public final class PolicyList: Sendable {
    public let policies: [Policy]
    /// Of all policies, in order; beside each the number of its policy.
    private let rules: [Policy.Rule]
    private let owners: [UInt32]
    private let index: RuleIndex

    public init(_ policies: [Policy]) {
        self.policies = policies
        var rules: [Policy.Rule] = []
        var owners: [UInt32] = []
        rules.reserveCapacity(policies.count)
        owners.reserveCapacity(policies.count)
        for number in policies.indices {
            for rule in policies[number].rules {
                rules.append(rule)
                owners.append(UInt32(truncatingIfNeeded: number))
            }
        }
        self.rules = rules
        self.owners = owners
        index = RuleIndex(rules)
    }

    /// The name of the first policy with a rule that holds for a connection.
    ///
    /// - Parameters:
    ///   - peer: nil for plaintext.
    ///   - holds: asked of rules that can hold, not of all and in no order.
    public func first(
        peer: Identity?, source: IPAddress, destination: SocketAddress, where holds: (Policy.Rule) -> Bool
    ) -> NamespacedName? {
        var search = RuleSearch(limit: rules.count)
        index.visit(peer: peer, source: source, destination: destination, &search) { holds(rules[$0]) }
        return search.found < rules.count ? policies[Int(owners[search.found])].name : nil
    }
}

/// The first rule that holds, so far.
struct RuleSearch {
    /// Nothing from here on is of interest any more.
    private(set) var found: Int

    init(limit: Int) {
        found = limit
    }

    /// - Parameter rules: numbers of rules, in order.
    mutating func look(_ rule: Int, _ holds: (Int) -> Bool) -> Bool {
        guard rule < found else { return true }
        guard holds(rule) else { return false }
        found = rule
        return true
    }
}
