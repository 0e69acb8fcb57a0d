import Address
import Decision
import Mesh
import Testing

/// Attribute × sign × kind of match × action: every cell of the table of ztunnel.md §5, built and counted here.
struct AttributeTests {
    struct Cell: Sendable, CustomTestStringConvertible {
        let title: String
        let match: Policy.Match
        /// Whether the match holds for `AttributeTests.peer`, and for a plaintext connection.
        let holds: Bool
        let holdsWithoutPeer: Bool
        var testDescription: String { title }
    }

    static let peer = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "alice")
    static let source = "10.0.0.1"
    static let destination = "10.0.0.2:8080"

    typealias Texts = WritableKeyPath<Policy.Match, [Policy.StringMatch]>

    /// Values of a textual attribute: one that hits and one that misses, for each kind of match.
    static func texts(_ value: String) -> [(kind: String, match: Policy.StringMatch, hits: Bool)] {
        [
            ("exact", .exact(value), true), ("exact", .exact(value + "x"), false),
            ("exact of a part", .exact(String(value.dropLast())), false),
            ("prefix", .prefix(String(value.prefix(3))), true), ("prefix", .prefix("x" + value), false),
            ("suffix", .suffix(String(value.suffix(3))), true), ("suffix", .suffix(value + "x"), false),
            ("presence", .presence, true),
        ]
    }

    static func textual(
        _ name: String, _ positive: Texts, _ negative: Texts, value: String
    ) -> [Cell] {
        texts(value).flatMap { row -> [Cell] in
            var with = Policy.Match()
            with[keyPath: positive] = [row.match]
            var without = Policy.Match()
            without[keyPath: negative] = [row.match]
            return [
                Cell(
                    title: "\(name) \(row.kind) \(row.match)", match: with, holds: row.hits,
                    holdsWithoutPeer: false),
                Cell(
                    title: "not \(name) \(row.kind) \(row.match)", match: without, holds: !row.hits,
                    holdsWithoutPeer: true),
            ]
        }
    }

    static func plain<Value>(
        _ name: String, _ positive: WritableKeyPath<Policy.Match, [Value]>,
        _ negative: WritableKeyPath<Policy.Match, [Value]>, hit: [Value], miss: [Value],
        needsPeer: Bool = false
    ) -> [Cell] {
        [(hit, true), (miss, false), (miss + hit, true)].flatMap { values, hits -> [Cell] in
            var with = Policy.Match()
            with[keyPath: positive] = values
            var without = Policy.Match()
            without[keyPath: negative] = values
            return [
                Cell(
                    title: "\(name) \(values)", match: with, holds: hits, holdsWithoutPeer: hits && !needsPeer
                ),
                Cell(
                    title: "not \(name) \(values)", match: without, holds: !hits,
                    holdsWithoutPeer: needsPeer || !hits),
            ]
        }
    }

    static let cells: [Cell] = {
        let prefixes = { (texts: [String]) in texts.compactMap { Prefix($0) } }
        let account = Policy.ServiceAccountMatch.init(namespace:serviceAccount:)
        return textual("namespaces", \.namespaces, \.notNamespaces, value: "shop")
            + textual("principals", \.principals, \.notPrincipals, value: "cluster.local/ns/shop/sa/alice")
            + plain(
                "sourceIPs", \.sourceIPs, \.notSourceIPs, hit: prefixes(["10.0.0.0/24"]),
                miss: prefixes(["10.0.1.0/24", "::/0"]))
            + plain(
                "sourceIPs bare", \.sourceIPs, \.notSourceIPs, hit: prefixes(["10.0.0.1"]),
                miss: prefixes(["10.0.0.2"]))
            + plain(
                "destinationIPs", \.destinationIPs, \.notDestinationIPs, hit: prefixes(["10.0.0.2/32"]),
                miss: prefixes(["10.0.0.1/32"]))
            + plain(
                "destinationPorts", \.destinationPorts, \.notDestinationPorts, hit: [8080], miss: [80, 15008])
            + plain(
                "serviceAccounts", \.serviceAccounts, \.notServiceAccounts, hit: [account("shop", "alice")],
                miss: [account("shop", "bob"), account("other", "alice")], needsPeer: true)
    }()

    static func verdict(_ match: Policy.Match, _ action: Policy.Action, peer: Identity?) throws -> Bool {
        var trace = Trace.off
        let connection = Connection(
            peer: peer, source: try #require(IPAddress(source)),
            destination: try #require(SocketAddress(destination)))
        return authorize(
            connection, by: AuthorizationTests.set([AuthorizationTests.policy("p", action, match)]),
            trace: &trace
        ).isAllowed
    }

    @Test(arguments: cells)
    func `allows exactly what matches`(cell: Cell) throws {
        #expect(try Self.verdict(cell.match, .allow, peer: Self.peer) == cell.holds)
        #expect(try Self.verdict(cell.match, .allow, peer: nil) == cell.holdsWithoutPeer)
    }

    @Test(arguments: cells)
    func `denies exactly what matches`(cell: Cell) throws {
        #expect(try Self.verdict(cell.match, .deny, peer: Self.peer) == !cell.holds)
        #expect(try Self.verdict(cell.match, .deny, peer: nil) == !cell.holdsWithoutPeer)
    }

    /// Two attributes in one match are both needed; every pair of cells, in both actions.
    @Test func `attributes of one match are joined by and`() throws {
        var count = 0
        for (index, one) in Self.cells.enumerated() {
            for other in Self.cells[(index + 1)...] {
                guard let both = one.match.joined(with: other.match) else { continue }
                for (peer, holds) in [
                    (Self.peer, one.holds && other.holds),
                    (nil, one.holdsWithoutPeer && other.holdsWithoutPeer),
                ] as [(Identity?, Bool)] {
                    #expect(
                        try Self.verdict(both, .allow, peer: peer) == holds, "\(one.title) and \(other.title)"
                    )
                    #expect(
                        try Self.verdict(both, .deny, peer: peer) == !holds, "\(one.title) and \(other.title)"
                    )
                    count += 2
                }
            }
        }
        print("policy table: \(Self.cells.count) cells in 4 variants, \(count) decisions on pairs of them")
        #expect(count > 4_000)
    }
}

extension Policy.Match {
    /// The two in one; nil when they speak of the same attribute.
    func joined(with other: Policy.Match) -> Policy.Match? {
        var result = self
        func take<Value>(_ path: WritableKeyPath<Policy.Match, [Value]>) -> Bool {
            guard !other[keyPath: path].isEmpty else { return true }
            guard result[keyPath: path].isEmpty else { return false }
            result[keyPath: path] = other[keyPath: path]
            return true
        }
        return take(\.namespaces) && take(\.notNamespaces) && take(\.principals) && take(\.notPrincipals)
            && take(\.sourceIPs) && take(\.notSourceIPs) && take(\.destinationIPs)
            && take(\.notDestinationIPs)
            && take(\.destinationPorts) && take(\.notDestinationPorts) && take(\.serviceAccounts)
            && take(\.notServiceAccounts) ? result : nil
    }
}
