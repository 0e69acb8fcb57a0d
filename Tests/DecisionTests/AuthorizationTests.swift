import Address
import Decision
import Mesh
import Testing

struct AuthorizationTests {
    static let alice = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")
    static let bob = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "bob")

    static func name(_ text: String) -> NamespacedName { NamespacedName(namespace: "shop", name: text) }

    static func policy(_ name: String, _ action: Policy.Action, _ matches: Policy.Match...) -> Policy {
        Policy(
            name: Self.name(name), scope: .namespace, action: action,
            rules: matches.map { .init(clauses: [.init(matches: [$0])]) })
    }

    static func principal(_ who: Identity) -> Policy.Match {
        var match = Policy.Match()
        match.principals = [.exact(who.principal)]
        return match
    }

    static func set(_ policies: [Policy], attached: [NamespacedName] = []) -> PolicySet {
        PolicySet(scoped: policies, named: attached.map { ($0, nil) })
    }

    static func decide(
        _ peer: Identity?, _ policies: [Policy], attached: [NamespacedName] = [], source: String = "10.0.0.1",
        destination: String = "10.0.0.2:8080"
    ) throws -> Verdict {
        var trace = Trace.recording
        let connection = Connection(
            peer: peer, source: try #require(IPAddress(source)),
            destination: try #require(SocketAddress(destination)))
        let verdict = authorize(connection, by: set(policies, attached: attached), trace: &trace)
        #expect(!trace.steps.isEmpty, "every verdict has its reasons")
        return verdict
    }

    // One row a rule of the order; read it as the documentation.
    static let rows: [(title: String, peer: Identity?, policies: [Policy], verdict: Verdict)] = [
        ("no policy: everyone may", alice, [], .allowed(.noAllowPolicies)),
        (
            "an allow that names the peer", alice, [policy("allow", .allow, principal(alice))],
            .allowed(.policy(name("allow")))
        ),
        (
            "an allow that names another", bob, [policy("allow", .allow, principal(alice))],
            .denied(.unmatchedByAllow)
        ),
        (
            "an allow without rules is a deny-all", alice, [policy("allow", .allow)],
            .denied(.unmatchedByAllow)
        ),
        (
            "deny wins over allow", alice,
            [policy("allow", .allow, principal(alice)), policy("deny", .deny, principal(alice))],
            .denied(.deniedByPolicy(name("deny")))
        ),
        (
            "deny of another does not touch the peer", bob, [policy("deny", .deny, principal(alice))],
            .allowed(.noAllowPolicies)
        ),
        ("a deny without rules denies nobody", alice, [policy("deny", .deny)], .allowed(.noAllowPolicies)),
        (
            "no identity meets no allow", nil, [policy("allow", .allow, principal(alice))],
            .denied(.unmatchedByAllow)
        ),
        (
            "a match with nothing set never holds", alice, [policy("deny", .deny, Policy.Match())],
            .allowed(.noAllowPolicies)
        ),
        (
            "any allow is enough", bob,
            [policy("a", .allow, principal(alice)), policy("b", .allow, principal(bob))],
            .allowed(.policy(name("b")))
        ),
        (
            "any rule is enough", bob, [policy("a", .allow, principal(alice), principal(bob))],
            .allowed(.policy(name("a")))
        ),
    ]

    @Test(arguments: rows)
    func `decides in the order of the API`(
        row: (title: String, peer: Identity?, policies: [Policy], verdict: Verdict)
    ) throws {
        #expect(try Self.decide(row.peer, row.policies) == row.verdict, "\(row.title)")
    }

    @Test func `a rule without clauses always holds, a clause without matches too`() throws {
        let everyone = Policy(
            name: Self.name("d"), scope: .namespace, action: .deny, rules: [.init(clauses: [])])
        #expect(try Self.decide(Self.alice, [everyone]) == .denied(.deniedByPolicy(Self.name("d"))))
        let clause = Policy(
            name: Self.name("d"), scope: .namespace, action: .deny,
            rules: [.init(clauses: [.init(matches: [])])])
        #expect(try Self.decide(nil, [clause]) == .denied(.deniedByPolicy(Self.name("d"))))
    }

    @Test func `all clauses of a rule must hold, and any match of a clause`() throws {
        var port = Policy.Match()
        port.destinationPorts = [8080]
        var otherPort = Policy.Match()
        otherPort.destinationPorts = [9090]
        func deny(_ clauses: [[Policy.Match]]) -> Policy {
            Policy(
                name: Self.name("d"), scope: .namespace, action: .deny,
                rules: [.init(clauses: clauses.map { .init(matches: $0) })])
        }
        #expect(try !Self.decide(Self.alice, [deny([[Self.principal(Self.alice)], [port]])]).isAllowed)
        #expect(try Self.decide(Self.alice, [deny([[Self.principal(Self.alice)], [otherPort]])]).isAllowed)
        #expect(
            try !Self.decide(
                Self.alice,
                [deny([[Self.principal(Self.bob), Self.principal(Self.alice)], [otherPort, port]])]
            ).isAllowed)
    }

    @Test func `a policy that is attached and has not arrived refuses`() throws {
        #expect(
            try Self.decide(Self.alice, [], attached: [Self.name("late")])
                == .denied(.missingPolicy(Self.name("late"))))
    }

    @Test func `a dry run decides nothing`() throws {
        var policy = Self.policy("deny", .deny, Self.principal(Self.alice))
        policy.isDryRun = true
        #expect(try Self.decide(Self.alice, [policy]).isAllowed)
        var allow = Self.policy("allow", .allow)
        allow.isDryRun = true
        #expect(try Self.decide(Self.alice, [allow]).isAllowed)
    }
}
