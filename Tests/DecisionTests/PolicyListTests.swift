import Address
import Decision
import Mesh
import TestSupport
import Testing

/// That an index leads to the policies changes nothing in what they say.
struct PolicyListTests {
    @Test func `decides as if every policy were asked`() {
        var world = RandomWorld(seed: 11)
        var allowed = 0
        var denied = 0
        for _ in 0..<800 {
            let policies = world.policies()
            let set = PolicySet(scoped: policies, named: [])
            for _ in 0..<12 {
                let connection = world.connection()
                var trace = Trace.off
                let verdict = authorize(connection, by: set, trace: &trace)
                #expect(verdict == plainVerdict(connection, policies), "\(connection) by \(policies)")
                switch verdict {
                case .allowed(.policy): allowed += 1
                case .denied(.deniedByPolicy): denied += 1
                default: break
                }
            }
        }
        // Neither is rare, or the comparison would say little.
        #expect(allowed > 800 && denied > 800)
    }

    @Test func `does not confuse a rule with others that share a key`() throws {
        var exact = Policy.Match()
        exact.namespaces = [.exact("shop")]
        exact.destinationPorts = [80]
        var prefix = Policy.Match()
        prefix.namespaces = [.prefix("shop"), .suffix("shop")]
        let policies = [
            AuthorizationTests.policy("a", .allow, exact), AuthorizationTests.policy("b", .allow, prefix),
        ]
        #expect(
            try AuthorizationTests.decide(AuthorizationTests.alice, policies)
                == .allowed(.policy(AuthorizationTests.name("b"))))
        #expect(
            try AuthorizationTests.decide(
                AuthorizationTests.alice, policies, destination: "10.0.0.2:80")
                == .allowed(.policy(AuthorizationTests.name("a"))))
    }

    @Test func `workloads that name other policies do not share a set`() throws {
        var builder = SnapshotBuilder(node: "node")
        let name = AuthorizationTests.name("named")
        for (account, names) in [("alice", []), ("bob", [name]), ("carol", [])] {
            builder.insert(
                Workload(
                    uid: account, name: account, namespace: "shop", addresses: [], node: "node",
                    authorizationPolicies: names))
        }
        var policy = AuthorizationTests.policy(
            "named", .deny, AuthorizationTests.principal(AuthorizationTests.bob))
        policy.scope = .workloadSelector
        builder.insert(policy)
        func named(_ snapshot: Snapshot) throws -> [Int] {
            try ["alice", "bob", "carol"].map {
                snapshot.policySet(for: try #require(snapshot.workload(uid: $0)).workload).deny.policies.count
            }
        }
        #expect(try named(builder.snapshot()) == [0, 1, 0])
        policy.rules = []
        builder.insert(policy)
        #expect(try named(builder.snapshot()) == [0, 1, 0])
        builder.removePolicy(name)
        let snapshot = builder.snapshot()
        #expect(try named(snapshot) == [0, 0, 0])
        let bob = try #require(snapshot.workload(uid: "bob")).workload
        #expect(snapshot.policySet(for: bob).missing == [name])
    }
}

/// The rules as the API tells them, one policy after the other.
private func plainVerdict(_ connection: Connection, _ policies: [Policy]) -> Verdict {
    let matching = policies.filter { policy in
        policy.rules.contains { rule in
            rule.clauses.allSatisfy { clause in
                clause.matches.isEmpty || clause.matches.contains { plainlyHolds($0, connection) }
            }
        }
    }
    if let deny = matching.first(where: { $0.action == .deny }) { return .denied(.deniedByPolicy(deny.name)) }
    if let allow = matching.first(where: { $0.action == .allow }) { return .allowed(.policy(allow.name)) }
    return policies.contains { $0.action == .allow } ? .denied(.unmatchedByAllow) : .allowed(.noAllowPolicies)
}

private func plainlyHolds(_ match: Policy.Match, _ connection: Connection) -> Bool {
    func hits(_ value: Policy.StringMatch, _ text: String?) -> Bool {
        switch value {
        case .exact(let exact): text?.utf8.elementsEqual(exact.utf8) ?? false
        case .prefix(let prefix): text?.utf8.starts(with: prefix.utf8) ?? false
        case .suffix(let suffix): text.map { Array($0.utf8.suffix(suffix.utf8.count)) } == Array(suffix.utf8)
        case .presence: text?.isEmpty == false
        }
    }
    func isSame(_ one: String, _ other: String?) -> Bool { hits(.exact(one), other) }
    func attribute<Value>(_ values: [Value], _ not: [Value], _ hits: (Value) -> Bool) -> Bool? {
        if values.isEmpty && not.isEmpty { return nil }
        return (values.isEmpty || values.contains(where: hits)) && !not.contains(where: hits)
    }
    let peer = connection.peer
    let set = [
        attribute(match.namespaces, match.notNamespaces) { hits($0, peer?.namespace ?? "") },
        attribute(match.principals, match.notPrincipals) { hits($0, peer?.principal) },
        attribute(match.sourceIPs, match.notSourceIPs) { $0.contains(connection.source) },
        attribute(match.destinationIPs, match.notDestinationIPs) {
            $0.contains(connection.destination.address)
        },
        attribute(match.destinationPorts, match.notDestinationPorts) { $0 == connection.destination.port },
        attribute(match.serviceAccounts, match.notServiceAccounts) {
            isSame($0.namespace, peer?.namespace) && isSame($0.serviceAccount, peer?.serviceAccount)
        },
    ].compactMap(\.self)
    return !set.isEmpty && set.allSatisfy { $0 }
}

/// Few different values, so that they meet.
private struct RandomWorld {
    private var generator: SeededGenerator
    // The last two are one name in two spellings: characters that Unicode takes for equal, and other bytes.
    private static let namespaces = ["shop", "shopping", "ping", "s", "shop-2", "caf\u{e9}", "cafe\u{301}"]
    private static let accounts = ["alice", "bob", "al"]
    private static let texts =
        [
            "", "s", "shop", "ping", "shopping", "cluster.local/", "cluster.local/ns/shop/sa/alice",
            "/sa/bob", "e",
        ]
        + ["cluster.local/ns/shop", "alice", "cluster.local/ns/ping/sa/bob", "no one", "shop-2"]
        + ["caf\u{e9}", "cafe\u{301}", "cafe", "\u{e9}", "cluster.local/ns/cafe\u{301}"]
    private static let addresses = [
        "10.0.0.1", "10.0.1.1", "::ffff:10.0.0.1", "fd00::1", "fd00:1::1", "0.0.0.0",
    ]
    .compactMap(IPAddress.init)

    init(seed: UInt64) {
        generator = SeededGenerator(seed: seed)
    }

    private mutating func number(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &generator)
    }

    private mutating func one<Value>(of values: [Value]) -> Value { values[number(0...(values.count - 1))] }

    /// Now and then some, mostly none.
    private mutating func some<Value>(_ make: (inout Self) -> Value) -> [Value] {
        number(0...5) > 0 ? [] : many(1...3, make)
    }

    private mutating func many<Value>(
        _ count: ClosedRange<Int>, _ make: (inout Self) -> Value
    ) -> [Value] {
        var values: [Value] = []
        for _ in 0..<number(count) { values.append(make(&self)) }
        return values
    }

    private mutating func text() -> Policy.StringMatch {
        let text = one(of: Self.texts)
        switch number(0...6) {
        case 0...2: return .exact(text)
        case 3, 4: return .prefix(text)
        case 5: return .suffix(text)
        default: return .presence
        }
    }

    private mutating func range() -> Prefix {
        let address = one(of: Self.addresses)
        return Prefix(address, length: one(of: [0, 8, 24, 31, address.bitCount])) ?? Prefix(address)
    }

    private mutating func match() -> Policy.Match {
        var match = Policy.Match()
        match.namespaces = some { $0.text() }
        match.notNamespaces = some { $0.text() }
        match.principals = some { $0.text() }
        match.notPrincipals = some { $0.text() }
        match.sourceIPs = some { $0.range() }
        match.notSourceIPs = some { $0.range() }
        match.destinationIPs = some { $0.range() }
        match.notDestinationIPs = some { $0.range() }
        match.destinationPorts = some { UInt16($0.number(80...83)) }
        match.notDestinationPorts = some { UInt16($0.number(80...83)) }
        match.serviceAccounts = some { $0.account() }
        match.notServiceAccounts = some { $0.account() }
        return match
    }

    private mutating func account() -> Policy.ServiceAccountMatch {
        Policy.ServiceAccountMatch(
            namespace: one(of: Self.namespaces), serviceAccount: one(of: Self.accounts))
    }

    mutating func policies() -> [Policy] {
        let count = number(0...8)
        return (0..<count).map { place in
            let rules = many(0...3) { world in
                Policy.Rule(
                    clauses: world.many(world.number(0...9) > 0 ? 1...2 : 0...0) { world in
                        Policy.Clause(
                            matches: world.many(world.number(0...9) > 0 ? 1...3 : 0...0) { $0.match() })
                    })
            }
            return Policy(
                name: AuthorizationTests.name("policy-\(place)"), scope: .namespace,
                action: number(0...1) == 0 ? .allow : .deny, rules: rules)
        }
    }

    mutating func connection() -> Connection {
        let peer = Identity(
            trustDomain: "cluster.local", namespace: one(of: Self.namespaces),
            serviceAccount: one(of: Self.accounts))
        return Connection(
            peer: number(0...4) == 0 ? nil : peer, source: one(of: Self.addresses),
            destination: SocketAddress(one(of: Self.addresses), UInt16(number(80...83))))
    }
}
