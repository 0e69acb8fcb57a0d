import Address

/// The rules without connection tracking. They contain no `ct` and no nat, so that the kernel does not even begin to track:
/// that costs part of every packet.
extension CaptureRules {
    static func untrackedChains(_ configuration: CaptureConfiguration) -> [Chain] {
        [
            Chain(
                name: "prerouting", kind: .filter, hook: .prerouting, priority: -150,
                rules: untrackedPrerouting(configuration)),
            Chain(
                name: "output", kind: .filter, hook: .output, priority: -150,
                rules: untrackedOutput(configuration)),
        ]
    }

    /// Not only the first packet of a connection: with SYN cookies it is the third that makes the socket. A packet of a
    /// connection that has its socket goes there, and does not look for it again.
    private static func untrackedPrerouting(_ configuration: CaptureConfiguration) -> [Rule] {
        var rules: [Rule] = []
        for family in Family.allCases {
            let own = configuration.ownAddresses(family)
            // Marked are the daemon's own connections to an address that has just come to the namespace. What would
            // only pretend to be one has lost the mark on its way out.
            let matches: [Clause] = [
                .fromLoopback(.equal), .family(family), .destinationIsElsewhere(family, than: own), .isTCP,
                .mark(.notEqual, configuration.packetMark),
            ]
            rules += [
                Rule(
                    "connections of the workload",
                    matches + [.transparentProxy(family, to: configuration.outboundPort)]),
                // Else a socket of the workload that listens on all addresses could take what was meant for another host.
                Rule("nobody takes connections of the workload", matches + [.rejectWithReset]),
            ]
        }
        rules.append(
            Rule(
                "what arrives, for answers without a socket", .fromLoopback(.notEqual), .isTCP,
                .setMark(configuration.arrivalMark)))
        rules += probes(configuration) { family, bytes in .source(family, bytes) }
        let arriving: [Clause] = [
            .fromLoopback(.notEqual), .isTCP, .destinationPort(.notEqual, configuration.tunnelPort),
        ]
        rules += [
            Rule(
                "connections to the workload",
                arriving + [.transparentProxy(nil, to: configuration.inboundPort)]),
            Rule(
                "nobody takes connections to the workload",
                arriving + [.flags([.syn, .ack], .equal, .syn), .rejectWithReset]),
        ]
        return rules
    }

    /// Routing leads what the workload opens to loopback. What leaves all the same is bound to an interface, bears a mark that
    /// it should not, or goes by a family that is not captured: no connection comes about.
    private static func untrackedOutput(_ configuration: CaptureConfiguration) -> [Rule] {
        [
            Rule(
                "only the daemon has its mark", .mark(.equal, configuration.packetMark), .isTCP,
                .socketOwner(configuration.daemonUserID, .notEqual),
                .clearMark(configuration.packetMark.mask)),
            Rule("what stays in the namespace", .leavesOverLoopback, .accept),
            Rule("connections that are open", .isTCP, .flags(.syn, .equal, []), .accept),
        ] + probes(configuration) { family, bytes in .destination(family, .equal, bytes) } + [
            Rule(
                "the daemon: its mark and its uid", .isTCP, .mark(.equal, configuration.packetMark),
                .socketOwner(configuration.daemonUserID), .accept),
            Rule("nothing else connects", .isTCP, .flags([.syn, .ack], .equal, .syn), .rejectWithReset),
            // An answer with a SYN cookie has no socket, and can only be the daemon's: no other listener is reached.
            Rule(
                "nor answers", .isTCP, .socketOwner(configuration.daemonUserID, .notEqual), .rejectWithReset),
        ]
    }
}

extension Routing {
    /// The rule that the kernel begins a namespace with for its main table.
    private static let mainPriority: UInt32 = 32_766

    /// What sends the workload's packets to loopback, and the daemon's and answers without a socket their ordinary way.
    ///
    /// A family in which the workload has no address keeps its routes: without one an application learns at once that it
    /// cannot connect.
    init(untracked configuration: CaptureConfiguration, families: [Family]) {
        let sources = families.compactMap { family in
            configuration.workloadAddresses.first { Family($0) == family }.map { (family, $0.bytes) }
        }
        self.init(
            rules: sources.flatMap { Self.untracked(configuration, $0.0) },
            routes: sources.map {
                LocalRoute(family: $0.0, table: configuration.routingTable, source: $0.1)
            })
    }

    /// In an order in which no moment lets out what the last of them holds back.
    private static func untracked(_ configuration: CaptureConfiguration, _ family: Family) -> [RoutingRule] {
        func rule(_ place: UInt32, _ action: RoutingRule.Action) -> RoutingRule {
            var rule = RoutingRule(family: family, priority: configuration.routingPriority - place, action)
            rule.isOfThisMachine = true
            rule.isTCP = true
            return rule
        }
        var answers = rule(2, .goTo(mainPriority))
        answers.mark = configuration.arrivalMark
        var daemon = rule(1, .goTo(mainPriority))
        daemon.mark = configuration.packetMark
        daemon.userID = configuration.daemonUserID
        let probes = configuration.probeAddresses.filter { Family($0) == family }.map { address in
            var probe = rule(1, .goTo(mainPriority))
            probe.destination = address.bytes
            return probe
        }
        return [answers, daemon] + probes + [rule(0, .lookup(configuration.routingTable))]
    }
}

extension RoutingRule {
    /// It leads everything that the workload sends to loopback, and so belongs with the rules that take it there.
    var leadsEverything: Bool { isOfThisMachine && mark == nil && destination == nil }
}
