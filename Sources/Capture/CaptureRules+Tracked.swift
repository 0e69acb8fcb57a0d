/// The rules that redirect.
extension CaptureRules {
    static func trackedChains(_ configuration: CaptureConfiguration) -> [Chain] {
        [
            Chain(
                name: "mangle-prerouting", kind: .filter, hook: .prerouting, priority: -150,
                rules: manglePrerouting(configuration)),
            Chain(
                name: "mangle-output", kind: .route, hook: .output, priority: -150,
                rules: mangleOutput(configuration)),
            Chain(
                name: "nat-prerouting", kind: .nat, hook: .prerouting, priority: -100,
                rules: natPrerouting(configuration)),
            Chain(
                name: "nat-output", kind: .nat, hook: .output, priority: -100,
                rules: natOutput(configuration)),
        ]
    }

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
}

extension Routing {
    /// What leads the answers of connections with a borrowed source address back to the daemon.
    init(tracked configuration: CaptureConfiguration, families: [Family]) {
        self.init(
            rules: families.map {
                RoutingRule(
                    family: $0, priority: configuration.routingPriority, mark: configuration.connectionMark,
                    table: configuration.routingTable)
            },
            routes: families.map { LocalRoute(family: $0, table: configuration.routingTable) })
    }
}
