/// Everything that Warren writes into one namespace, as data.
///
/// ```
/// app ──SYN──▶ nat output ──redirect 15001──▶ daemon ──mark 0x539, its own uid──▶ nat output: accepted, leaves
/// peer ──SYN──▶ nat prerouting ──redirect 15006──▶ daemon
/// daemon ──source: the peer's address, mark 0x539──▶ lo ──mangle prerouting: connection 0x111──▶ app
/// app ──answer to the peer's address──▶ mangle output: mark 0x111 ──routing rule──▶ table 100: local ──▶ daemon
/// ```
///
/// One `inet` table serves IPv4 and IPv6. The rules always cover both: where the daemon listens on IPv4 alone, IPv6
/// connections are refused rather than let out in the clear.
///
/// Who is believed: the mark alone says "the daemon's" nowhere that an application would gain by it. Leaving uncaptured
/// takes the mark *and* the daemon's uid. Where packets come in there is no socket to ask, so mangle prerouting believes
/// the mark; it can only be there on packets that this namespace sent to itself (the kernel clears marks between
/// namespaces), and what it buys a forger is that the answers to its own connection stay inside the namespace.
///
/// The nat chains see the first packet that connection tracking knows of a connection. A connection that was open before
/// the rules came is therefore redirected in the middle and reset: it fails closed, and is opened again through the mesh.
public struct CaptureRules: Hashable, Sendable {
    public let table: Table
    public let routing: Routing

    /// - Parameter ipv6: whether the namespace has IPv6; without it the kernel refuses IPv6 routes.
    public init(_ configuration: CaptureConfiguration, ipv6: Bool) {
        table = Table(
            name: Self.tableName, tag: Self.tag,
            chains: [
                Chain(
                    name: "mangle-prerouting", kind: .filter, hook: .prerouting, priority: -150,
                    rules: Self.manglePrerouting(configuration)),
                Chain(
                    name: "mangle-output", kind: .route, hook: .output, priority: -150,
                    rules: Self.mangleOutput(configuration)),
                Chain(
                    name: "nat-prerouting", kind: .nat, hook: .prerouting, priority: -100,
                    rules: Self.natPrerouting(configuration)),
                Chain(
                    name: "nat-output", kind: .nat, hook: .output, priority: -100,
                    rules: Self.natOutput(configuration)),
            ])
        routing = Routing(configuration, families: ipv6 ? [.ipv4, .ipv6] : [.ipv4])
    }

    init(table: Table, routing: Routing) {
        self.table = table
        self.routing = routing
    }

    static let tableName = "warren"
    static let tag = "Warren ambient capture; managed, do not edit"

    /// Connections with a borrowed source address come in over loopback with the daemon's mark on them. So do the daemon's
    /// answers to the workload's own connections, which need no mark.
    private static func manglePrerouting(_ configuration: CaptureConfiguration) -> [Rule] {
        [
            Rule(
                "remember connections of the daemon to the workload", .isTCP,
                .mark(.equal, configuration.packetMark), .direction(.original),
                .setConnectionMark(configuration.connectionMark))
        ]
    }

    /// Their answers go to an address that is not ours: the mark brings them to the table that delivers locally. What the
    /// daemon sends goes to one that is, and to look for its way a second time would cost a tenth of sending it.
    private static func mangleOutput(_ configuration: CaptureConfiguration) -> [Rule] {
        [
            Rule(
                "answers to the daemon find back", .isTCP,
                .connectionMark(.equal, configuration.connectionMark), .direction(.reply),
                .setMark(configuration.connectionMark))
        ]
    }

    private static func natPrerouting(_ configuration: CaptureConfiguration) -> [Rule] {
        var rules = configuration.reroutedInterfaces.map { interface in
            Rule(
                "\(interface) carries the workload's own connections", .arrivesOn(interface), .isTCP,
                .redirect(to: configuration.outboundPort))
        }
        guard configuration.capturesInbound else { return rules }
        rules += probes(configuration) { family, bytes in .source(family, bytes) }
        rules += Family.allCases.map { family in
            Rule(
                "connections to the workload", .family(family),
                .destination(family, .notEqual, family.loopback), .isTCP,
                .destinationPort(.notEqual, configuration.tunnelPort),
                .mark(.notEqual, configuration.packetMark), .redirect(to: configuration.inboundPort))
        }
        return rules
    }

    private static func natOutput(_ configuration: CaptureConfiguration) -> [Rule] {
        probes(configuration) { family, bytes in .destination(family, .equal, bytes) } + [
            // Covers ::1 and 127.0.0.0/8 as well as the workload's own addresses, which are routed over loopback.
            Rule("loopback and the workload's own addresses", .leavesOverLoopback, .accept),
            Rule(
                "the daemon: its mark and its uid", .isTCP, .mark(.equal, configuration.packetMark),
                .socketOwner(configuration.daemonUserID), .accept),
            Rule("connections of the workload", .isTCP, .redirect(to: configuration.outboundPort)),
        ]
    }

    private static func probes(
        _ configuration: CaptureConfiguration, _ address: (Family, [UInt8]) -> Clause
    ) -> [Rule] {
        configuration.probeAddresses.map { probe in
            let family: Family = probe.isIPv4 ? .ipv4 : .ipv6
            return Rule("health probes", .family(family), address(family, probe.bytes), .isTCP, .accept)
        }
    }
}

/// What leads the answers of connections with a borrowed source address back to the daemon.
public struct Routing: Hashable, Sendable {
    public let rules: [RoutingRule]
    public let routes: [LocalRoute]

    init(_ configuration: CaptureConfiguration, families: [Family]) {
        routes = families.map { LocalRoute(family: $0, table: configuration.routingTable) }
        rules = families.map {
            RoutingRule(
                family: $0, priority: configuration.routingPriority, mark: configuration.connectionMark,
                table: configuration.routingTable)
        }
    }
}

/// `ip rule add fwmark MARK lookup TABLE pref PRIORITY`
public struct RoutingRule: Hashable, Sendable, CustomStringConvertible {
    public let family: Family
    public let priority: UInt32
    public let mark: Mark
    public let table: UInt32

    public init(family: Family, priority: UInt32, mark: Mark, table: UInt32) {
        self.family = family
        self.priority = priority
        self.mark = mark
        self.table = table
    }

    public var description: String {
        "\(family) rule \(priority): fwmark \(mark) lookup \(table)"
    }
}

/// `ip route add local default dev lo table TABLE`
public struct LocalRoute: Hashable, Sendable, CustomStringConvertible {
    public let family: Family
    public let table: UInt32

    public init(family: Family, table: UInt32) {
        self.family = family
        self.table = table
    }

    public var description: String { "\(family) route: local default dev lo table \(table)" }
}
