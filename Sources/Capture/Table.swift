import Address

/// An nftables table as data: what is written, and what a dump is read back into.
public struct Table: Hashable, Sendable {
    public let name: String
    /// The comment that the table carries. It says whose the table is: one without it is never touched.
    public let tag: String
    public var chains: [Chain]

    public init(name: String, tag: String, chains: [Chain]) {
        self.name = name
        self.tag = tag
        self.chains = chains
    }
}

/// A base chain: rules that the kernel runs at one hook.
public struct Chain: Hashable, Sendable {
    /// `route` is the mangle table's output chain: a changed mark is routed anew there.
    public enum Kind: String, Hashable, Sendable { case nat, route, filter }

    /// The kernel's numbers (`enum nf_inet_hooks`), the same for every address family.
    public enum Hook: UInt32, Hashable, Sendable {
        case prerouting = 0
        case output = 3
    }

    public let name: String
    public let kind: Kind
    public let hook: Hook
    /// Lower runs earlier: −150 is mangle's place, −100 that of destination NAT.
    public let priority: Int32
    public var rules: [Rule]

    public init(name: String, kind: Kind, hook: Hook, priority: Int32, rules: [Rule]) {
        self.name = name
        self.kind = kind
        self.hook = hook
        self.priority = priority
        self.rules = rules
    }
}

/// One rule: its instructions, and the sentence that `nft list ruleset` shows beside it.
public struct Rule: Hashable, Sendable {
    public let comment: String
    public let expressions: [Expression]

    public init(comment: String, expressions: [Expression]) {
        self.comment = comment
        self.expressions = expressions
    }

    init(_ comment: String, _ clauses: Clause...) {
        self.init(comment, clauses)
    }

    init(_ comment: String, _ clauses: [Clause]) {
        self.init(comment: comment, expressions: clauses.flatMap(\.expressions))
    }

    /// What errors call it.
    func title(in chain: Chain) -> String { "rule \"\(comment)\" of \(chain.name)" }

    /// Has an expression that rules of tracked capture do without.
    var isOnlyUntracked: Bool {
        expressions.contains { expression in
            switch expression {
            case .transparentProxy, .rejectWithReset: true
            default: false
            }
        }
    }
}

/// IPv4 or IPv6, with where each keeps its addresses.
public enum Family: Hashable, Sendable, CaseIterable {
    case ipv4, ipv6

    init(_ address: IPAddress) {
        self = address.isIPv4 ? .ipv4 : .ipv6
    }

    /// The number in netlink messages (`AF_INET`, `AF_INET6`; nftables uses the same ones).
    var number: UInt8 { self == .ipv4 ? 2 : 10 }
    var sourceOffset: UInt32 { self == .ipv4 ? 12 : 8 }
    var destinationOffset: UInt32 { self == .ipv4 ? 16 : 24 }
    var addressByteCount: UInt32 { self == .ipv4 ? 4 : 16 }

    /// 127.0.0.1 or ::1.
    var loopback: [UInt8] {
        self == .ipv4 ? [127, 0, 0, 1] : Array(repeating: 0, count: 15) + [1]
    }
}
