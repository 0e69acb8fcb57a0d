import Address
import Foundation
import Linux
import Testing

@testable import Capture

/// The rules in the kernel, in namespaces of their own, read back with `nft` and `ip`.
@Suite(.enabled(if: NamespaceLab.isRoot, "needs root, for network namespaces"))
struct CaptureTests {
    let capture = Capture(.of(.tracked))

    @Test func `writes without tracking what nft and ip then show`() throws {
        let lab = try NamespaceLab()
        try Capture(.of(.untracked)).apply(in: lab.namespace())
        let ruleset = try run(in: lab.pod, "nft", "list", "ruleset")
        for line in [
            "type filter hook prerouting priority mangle; policy accept;",
            "type filter hook output priority mangle; policy accept;",
            "iif \"lo\" ip daddr != 10.98.1.2 ip daddr != 127.0.0.0/8 meta l4proto tcp meta mark & 0x00000fff != 0x00000539 tproxy ip to :15001 accept",
            "iif \"lo\" ip6 daddr != fd98:1::2 ip6 daddr != ::1 ip6 daddr != fe80::/10 meta l4proto tcp meta mark & 0x00000fff != 0x00000539 tproxy ip6 to :15001 accept",
            "iif != \"lo\" meta l4proto tcp meta mark set meta mark & 0xfffff112 | 0x00000112",
            "iif != \"lo\" tcp dport != 15008 tproxy to :15006 accept",
            "iif != \"lo\" tcp dport != 15008 tcp flags syn / syn,ack reject with tcp reset",
            "oif \"lo\" accept", "tcp flags ! syn accept",
            "meta l4proto tcp meta mark & 0x00000fff == 0x00000539 meta skuid 64321 accept",
            "tcp flags syn / syn,ack reject with tcp reset comment \"nothing else connects\"",
        ] {
            #expect(ruleset.contains(line), "\(line)\nis not in\n\(ruleset)")
        }
        #expect(!ruleset.contains(" ct ") && !ruleset.contains("type nat"))
        for (family, source) in [("-4", "10.98.1.2"), ("-6", "fd98:1::2")] {
            let rules = try run("ip", "-n", lab.pod, family, "rule")
            for rule in [
                "32762:\tfrom all fwmark 0x112/0xfff iif lo ipproto tcp goto 32766",
                "32763:\tfrom all fwmark 0x539/0xfff iif lo uidrange 64321-64321 ipproto tcp goto 32766",
                "32764:\tfrom all iif lo ipproto tcp lookup 100",
            ] { #expect(rules.contains(rule), "\(rules)") }
            let routes = try run("ip", "-n", lab.pod, family, "route", "show", "table", "100")
            #expect(routes.contains("local default dev lo") && routes.contains("src \(source)"), "\(routes)")
        }
        // Nothing has made the kernel track connections.
        let tracked = try run(in: lab.pod, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
        #expect(tracked == "0\n")
    }

    @Test func `writes what nft and ip then show`() throws {
        let lab = try NamespaceLab()
        try capture.apply(in: lab.namespace())
        let ruleset = try run(in: lab.pod, "nft", "list", "ruleset")
        // nft shows the mask with the bits that are set anyway: & 0xfffff111 | 0x111 is & 0xfffff000 | 0x111.
        for line in [
            "table inet warren {", "comment \"Warren ambient capture; managed, do not edit\"",
            "type filter hook prerouting priority mangle; policy accept;",
            "type route hook output priority mangle; policy accept;",
            "type nat hook prerouting priority dstnat; policy accept;",
            "type nat hook output priority -100; policy accept;",
            "meta l4proto tcp meta mark & 0x00000fff == 0x00000539 ct direction original ct mark set ct mark & 0xfffff111 | 0x00000111",
            "meta l4proto tcp ct mark & 0x00000fff == 0x00000111 ct direction reply meta mark set meta mark & 0xfffff111 | 0x00000111",
            "ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 redirect to :15006",
            "ip6 daddr != ::1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 redirect to :15006",
            "oif \"lo\" accept",
            "meta l4proto tcp meta mark & 0x00000fff == 0x00000539 meta skuid 64321 accept",
            "meta l4proto tcp redirect to :15001 comment \"connections of the workload\"",
        ] {
            #expect(ruleset.contains(line), "\(line)\nis not in\n\(ruleset)")
        }
        for family in ["-4", "-6"] {
            let rules = try run("ip", "-n", lab.pod, family, "-j", "rule")
            #expect(rules.contains("\"priority\":32764"), "\(rules)")
            #expect(rules.contains("\"fwmark\":\"0x111\",\"fwmask\":\"0xfff\",\"table\":\"100\""), "\(rules)")
            let routes = try run("ip", "-n", lab.pod, family, "route", "show", "table", "100")
            #expect(routes.contains("local default dev lo"), "\(routes)")
        }
    }

    @Test(arguments: CaptureMethod.allCases)
    func `leaves nothing behind, and other people's things as they were`(method: CaptureMethod) throws {
        let capture = Capture(.of(method))
        let lab = try NamespaceLab()
        try run(
            in: lab.pod, "nft",
            "add table inet theirs; add chain inet theirs c { type filter hook input priority 0; }")
        try run("ip", "-n", lab.pod, "rule", "add", "fwmark", "0x111/0xfff", "pref", "77", "lookup", "55")
        let (before, elsewhere) = try (lab.dump(), lab.dump(of: lab.peer))
        try capture.apply(in: lab.namespace())
        #expect(try lab.dump() != before)
        #expect(try lab.dump(of: lab.peer) == elsewhere)
        try capture.remove(from: lab.namespace())
        #expect(try lab.dump() == before)
        try capture.remove(from: lab.namespace())
    }

    @Test func `keeps a setting that somebody else has switched on`() throws {
        let lab = try NamespaceLab()
        try run(in: lab.pod, "sysctl", "-qw", "net.ipv4.fwmark_reflect=1")
        let before = try lab.dump()
        try Capture(.of(.untracked)).apply(in: lab.namespace())
        try Capture(.of(.untracked)).remove(from: lab.namespace())
        #expect(try lab.dump() == before)
        #expect(before.contains("net.ipv4.fwmark_reflect = 1"))
    }

    @Test(arguments: CaptureMethod.allCases)
    func `goes from one method to the other in place`(method: CaptureMethod) throws {
        let lab = try NamespaceLab()
        let other: CaptureMethod = method == .tracked ? .untracked : .tracked
        let before = try lab.dump()
        try Capture(.of(other)).apply(in: lab.namespace())
        #expect(try !Capture(.of(method)).verify(lab.namespace()).isEmpty)
        try Capture(.of(method)).apply(in: lab.namespace())
        let moved = try lab.dump()
        let fresh = try NamespaceLab()
        try Capture(.of(method)).apply(in: fresh.namespace())
        #expect(try moved == fresh.dump())
        // Whoever removes them need not know which they are.
        try Capture(.of(other)).remove(from: lab.namespace())
        #expect(try lab.dump() == before)
    }

    @Test func `captures no family in which the workload has no address, and lets nothing out there`() throws
    {
        let lab = try NamespaceLab()
        var configuration = CaptureConfiguration.of(.untracked)
        configuration.workloadAddresses.removeLast()
        try Capture(configuration).apply(in: lab.namespace())
        #expect(try !run("ip", "-n", lab.pod, "-6", "rule").contains("lookup 100"))
        #expect(
            try lab.behaviour("families") == "ipv4: ConnectionRefusedError\nipv6: ConnectionRefusedError\n")
        // Where there is no way to the other family either, an application learns that, as without a mesh.
        try run("ip", "-n", lab.pod, "-6", "route", "flush", "table", "main")
        #expect(try lab.behaviour("families").hasSuffix("ipv6: OSError ENETUNREACH\n"))
    }

    @Test func `can be applied again and again`() throws {
        let lab = try NamespaceLab()
        try capture.apply(in: lab.namespace())
        let once = try lab.dump()
        for _ in 0..<3 { try capture.apply(in: lab.namespace()) }
        #expect(try lab.dump() == once)
        #expect(try capture.verify(lab.namespace()) == [])
    }

    @Test func `replaces the rules of another configuration, routing included`() throws {
        let lab = try NamespaceLab()
        var old = CaptureConfiguration(daemonUserID: 1)
        old.routingTable = 99
        old.routingPriority = 50
        old.outboundPort = 25_001
        try Capture(old).apply(in: lab.namespace())
        try capture.apply(in: lab.namespace())
        let upgraded = try lab.dump()
        let fresh = try NamespaceLab()
        try capture.apply(in: fresh.namespace())
        #expect(try upgraded == fresh.dump())
        #expect(!upgraded.contains("25001") && !upgraded.contains("lookup 99"))
    }

    static let damages: [(command: [String], drift: @Sendable (Drift) -> Bool)] = [
        (["nft", "flush", "ruleset"], { $0 == .tableMissing }),
        (["nft", "add table inet warren { flags dormant; }"], { $0 == .tableDormant }),
        (
            ["nft", "flush", "chain", "inet", "warren", "nat-output"],
            { $0 == .rulesChanged(chain: "nat-output", at: "loopback and the workload's own addresses") }
        ),
        (
            ["nft", "insert", "rule", "inet", "warren", "nat-output", "meta", "skuid", "0", "accept"],
            { $0 == .rulesChanged(chain: "nat-output", at: "loopback and the workload's own addresses") }
        ),
        (["nft", "add", "chain", "inet", "warren", "guest"], { $0 == .chainUnexpected("guest") }),
        (
            ["ip", "rule", "del", "pref", "32764"],
            { if case .routingRuleMissing = $0 { true } else { false } }
        ),
        (
            ["ip", "-6", "rule", "del", "pref", "32764"],
            { if case .routingRuleMissing = $0 { true } else { false } }
        ),
        (["ip", "route", "flush", "table", "100"], { if case .routeMissing = $0 { true } else { false } }),
        (
            ["ip", "-6", "route", "flush", "table", "100"],
            { if case .routeMissing = $0 { true } else { false } }
        ),
    ]

    typealias Damage = (command: [String], drift: @Sendable (Drift) -> Bool)

    static let untrackedDamages: [Damage] = {
        var damages: [Damage] = [
            (["nft", "flush", "ruleset"], { $0 == .tableMissing }),
            (
                ["nft", "insert", "rule", "inet", "warren", "output", "meta", "skuid", "0", "accept"],
                { $0 == .rulesChanged(chain: "output", at: "only the daemon has its mark") }
            ),
            (
                ["nft", "flush", "chain", "inet", "warren", "prerouting"],
                { $0 == .rulesChanged(chain: "prerouting", at: "connections of the workload") }
            ),
        ]
        for family in ["-4", "-6"] {
            for priority in ["32762", "32763", "32764"] {
                damages.append(
                    (
                        ["ip", family, "rule", "del", "pref", priority],
                        { if case .routingRuleMissing = $0 { true } else { false } }
                    ))
            }
            damages.append(
                (
                    ["ip", family, "route", "flush", "table", "100"],
                    { if case .routeMissing = $0 { true } else { false } }
                ))
        }
        return damages
    }()

    @Test(arguments: untrackedDamages.indices)
    func `finds damage without tracking too`(index: Int) throws {
        try finds(Self.untrackedDamages[index], Capture(.of(.untracked)))
    }

    /// A rule or route that is almost ours.
    @Test(arguments: [
        ["rule", "add", "pref", "32764", "iif", "lo", "lookup", "100"],
        ["rule", "add", "pref", "32764", "iif", "pod0", "ipproto", "tcp", "lookup", "100"],
        ["rule", "add", "pref", "32764", "iif", "lo", "ipproto", "tcp", "dport", "80", "lookup", "100"],
        ["rule", "add", "pref", "32764", "iif", "lo", "ipproto", "tcp", "uidrange", "0-9", "lookup", "100"],
        ["rule", "add", "pref", "32764", "iif", "lo", "ipproto", "tcp", "goto", "32766"],
    ])
    func `is not taken in by a rule that is almost its own`(almost: [String]) throws {
        let lab = try NamespaceLab()
        let capture = Capture(.of(.untracked))
        try capture.apply(in: lab.namespace())
        try run("ip", "-n", lab.pod, "rule", "del", "pref", "32764")
        try run(["ip", "-n", lab.pod] + almost)
        #expect(
            try capture.verify(lab.namespace()).map(\.description) == [
                "missing: ipv4 rule 32764: iif lo ipproto tcp lookup 100"
            ])
        try capture.apply(in: lab.namespace())
        #expect(try capture.verify(lab.namespace()) == [])
    }

    @Test func `puts right where the workload's connections come from`() throws {
        let lab = try NamespaceLab()
        let capture = Capture(.of(.untracked))
        try capture.apply(in: lab.namespace())
        let whole = try lab.dump()
        try run("ip", "-n", lab.pod, "addr", "add", "10.98.1.77/24", "dev", "pod0")
        try run(
            "ip", "-n", lab.pod, "route", "replace", "local", "default", "dev", "lo", "src", "10.98.1.77",
            "table",
            "100", "proto", "87")
        #expect(
            try capture.verify(lab.namespace()).map(\.description) == [
                "the rules of prerouting differ at \"connections of the workload\"",
                "missing: ipv4 route: local default dev lo src 10.98.1.2 table 100",
                "left over: ipv4 route: local default dev lo src 10.98.1.77 table 100",
            ])
        try capture.apply(in: lab.namespace())
        try run("ip", "-n", lab.pod, "addr", "del", "10.98.1.77/24", "dev", "pod0")
        try capture.apply(in: lab.namespace())
        #expect(try lab.dump() == whole)
    }

    @Test(arguments: damages.indices)
    func `finds damage, is told of it, and repairs it`(index: Int) throws {
        try finds(Self.damages[index], capture)
    }

    private func finds(
        _ damage: Damage, _ capture: Capture
    ) throws {
        let lab = try NamespaceLab()
        try capture.apply(in: lab.namespace())
        let whole = try lab.dump()
        let monitor = try CaptureMonitor(lab.namespace())
        #expect(try !monitor.drain())
        try run(["ip", "netns", "exec", lab.pod] + damage.command)
        #expect(try monitor.drain())
        let drifts = try capture.verify(lab.namespace())
        #expect(drifts.count == 1 && drifts.allSatisfy(damage.drift), "\(damage.command): \(drifts)")
        try capture.apply(in: lab.namespace())
        #expect(try lab.dump() == whole)
        #expect(try capture.verify(lab.namespace()) == [])
    }

    @Test func `hears through a readiness set that something changed`() throws {
        let lab = try NamespaceLab()
        let monitor = try CaptureMonitor(lab.namespace())
        let epoll = try Epoll()
        try epoll.add(monitor.tables.reference, .readable, token: 1)
        try epoll.add(monitor.routing.reference, .readable, token: 2)
        #expect(epoll.wait(milliseconds: 0) == 0)
        try run(in: lab.pod, "nft", "add", "table", "inet", "theirs")
        #expect(epoll.wait(milliseconds: 5000) == 1)
        #expect(epoll[0].token == 1)
        #expect(try monitor.drain())
        #expect(epoll.wait(milliseconds: 0) == 0)
    }

    @Test func `leaves a table of its name alone that it did not make`() throws {
        let lab = try NamespaceLab()
        try run(in: lab.pod, "nft", "add table inet warren { comment \"mine\"; }")
        let before = try lab.dump()
        #expect(throws: CaptureError.foreignTable(name: "warren")) { try capture.apply(in: lab.namespace()) }
        #expect(try lab.dump() == before)
        #expect(throws: CaptureError.foreignTable(name: "warren")) { try capture.verify(lab.namespace()) }
        try capture.remove(from: lab.namespace())
        #expect(try lab.dump() == before)
    }

    @Test func `refuses a routing table that leads elsewhere`() throws {
        let lab = try NamespaceLab()
        try run("ip", "-n", lab.pod, "route", "add", "default", "via", "10.98.1.1", "table", "100")
        let before = try lab.dump()
        let route = LocalRoute(family: .ipv4, table: 100)
        #expect(throws: CaptureError.foreignRoute(route)) { try capture.apply(in: lab.namespace()) }
        #expect(try lab.dump() == before)
    }

    @Test func `is not half applied when loopback is down`() throws {
        let lab = try NamespaceLab(loopbackUp: false)
        let before = try lab.dump()
        #expect(throws: CaptureError.loopbackDown) { try capture.apply(in: lab.namespace()) }
        #expect(try lab.dump() == before)
    }

    @Test func `goes without IPv6 routing in a namespace without IPv6`() throws {
        let lab = try NamespaceLab(ipv6: false)
        try capture.apply(in: lab.namespace())
        #expect(try !lab.dump().contains("local default dev lo table 100 proto 87 metric"))
        #expect(try capture.verify(lab.namespace()) == [])
    }

    @Test func `changes all of nftables or nothing`() throws {
        let lab = try NamespaceLab()
        try capture.apply(in: lab.namespace())
        let before = try lab.dump()
        // The last rule is one that the kernel refuses: it redirects from a register that holds no port.
        var rules = CaptureRules(capture.configuration, ipv6: true)
        rules = rules.appending(Rule(comment: "impossible", expressions: [.redirect]))
        let failure = #expect(throws: CaptureError.self) {
            try lab.namespace().perform(orThrow: { error in error as any Error }) { () throws(any Error) in
                var tables = try NetlinkConversation(.netfilter)
                try tables.replace(rules.table)
            }
        }
        guard case .refused(.commit, let object, _, _) = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        #expect(object.contains("impossible"))
        #expect(try lab.dump() == before)
    }

    @Test(arguments: CaptureMethod.allCases)
    func `resets a connection that was open before the rules came`(method: CaptureMethod) throws {
        let capture = Capture(.of(method))
        let lab = try NamespaceLab()
        let outcome = try lab.behaviour("straddle") { _ in try capture.apply(in: lab.namespace()) }
        #expect(outcome == "open\nreset\n")
    }
}

/// What packets meet: see Tests/interop/capture_behaviour.py for the sockets.
@Suite(.enabled(if: NamespaceLab.isRoot, "needs root, for network namespaces"))
struct CaptureBehaviourTests {
    struct Observation: Decodable, Equatable {
        var at: String?
        var from: String?
        var to: String?
        var talks: Bool?
        var error: String?
    }

    /// What else may be so in a pod.
    enum Circumstance: CaseIterable {
        case none, synCookies, strictSourceCheck, ownTracking, furtherAddresses
    }

    @Test(arguments: CaptureMethod.allCases, Circumstance.allCases)
    func `captures TCP and nothing else, for both families`(
        method: CaptureMethod, with circumstance: Circumstance
    ) throws {
        let lab = try NamespaceLab()
        switch circumstance {
        case .none: break
        case .synCookies: try run(in: lab.pod, "sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
        case .strictSourceCheck:
            try run(
                in: lab.pod, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1",
                "net.ipv4.conf.pod0.rp_filter=1")
        case .ownTracking:
            // A firewall of the pod's own: what it sees are ordinary connections.
            try run(
                in: lab.pod, "nft",
                """
                add table inet theirs
                add chain inet theirs in { type filter hook input priority 0; policy accept; }
                add rule inet theirs in ct state established,related accept
                add rule inet theirs in ct state invalid drop
                add chain inet theirs out { type filter hook output priority 0; policy accept; }
                add rule inet theirs out ct state invalid drop
                """)
        case .furtherAddresses:
            try run("ip", "-n", lab.pod, "addr", "add", "10.98.1.77/24", "dev", "pod0")
            try run(
                "ip", "-n", lab.pod, "addr", "add", "fd98:1::77/64", "dev", "pod0", "nodad", "preferred_lft",
                "0")
        }
        try Capture(.of(method)).apply(in: lab.namespace())
        let text = try lab.behaviour("all")
        let found = try JSONDecoder().decode([String: [String: Observation]].self, from: Data(text.utf8))
        if method == .untracked, circumstance != .ownTracking {
            #expect(try run(in: lab.pod, "cat", "/proc/sys/net/netfilter/nf_conntrack_count") == "0\n")
        }
        try check(#require(found["ipv4"]), pod: "10.98.1.2", peer: "10.98.1.1", far: "10.98.9.9", "127.0.0.1")
        try check(#require(found["ipv6"]), pod: "fd98:1::2", peer: "fd98:1::1", far: "fd98:9::9", "::1")
    }

    private func check(
        _ found: [String: Observation], pod: String, peer: String, far: String, _ loopback: String
    ) {
        func at(_ place: String, from: String, to: String? = nil) -> Observation {
            Observation(at: place, from: from, to: to, talks: true)
        }
        let expected: [String: Observation] = [
            "an app's connection": at("outbound", from: pod, to: "\(peer) 8080"),
            "an app's connection without a daemon's mark, by its uid": at(
                "outbound", from: pod, to: "\(peer) 8080"),
            "the daemon's connection": at("peer", from: pod),
            "the daemon's with more bits in its mark": at("peer", from: pod),
            "a forged mark": at("outbound", from: pod, to: "\(peer) 8080"),
            "a forged mark of root": at("outbound", from: pod, to: "\(peer) 8080"),
            "a peer's connection": at("inbound", from: peer, to: "\(pod) 9090"),
            "a peer's connection where nobody listens": at("inbound", from: peer, to: "\(pod) 9999"),
            "a tunnel": at("tunnel", from: peer),
            "loopback": at("app", from: loopback),
            "the own address": at("app", from: pod),
            "the daemon with the peer's address": at("app", from: peer),
            "the daemon with a far address": at("app", from: far),
            "without a daemon": Observation(error: "ConnectionRefusedError"),
            "a peer's connection without a daemon": Observation(error: "ConnectionRefusedError"),
            "a tunnel without a daemon": Observation(error: "ConnectionRefusedError"),
            "udp out": Observation(talks: true),
            "udp in": Observation(talks: true),
            "icmp": Observation(talks: true),
        ]
        for (name, observation) in expected { #expect(found[name] == observation, "\(name)") }
        // These stay in the namespace; all that matters is that they do not reach the peer.
        let contained = found.filter { expected[$0.key] == nil }
        for (name, observation) in contained { #expect(observation.at != "peer", "\(name)") }
        #expect(contained.count == 5)
    }
}

extension CaptureConfiguration {
    /// For the pod of a `NamespaceLab`.
    static func of(_ method: CaptureMethod) -> CaptureConfiguration {
        var configuration = CaptureConfiguration(daemonUserID: NamespaceLab.daemonUserID)
        configuration.preferredMethod = method
        configuration.workloadAddresses = ["10.98.1.2", "fd98:1::2"].compactMap { IPAddress($0) }
        return configuration
    }
}

extension CaptureRules {
    fileprivate func appending(_ rule: Rule) -> CaptureRules {
        var table = table
        table.chains[table.chains.count - 1].rules.append(rule)
        return CaptureRules(table: table, routing: routing)
    }
}
