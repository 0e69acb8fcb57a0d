import Foundation
import Linux
import Testing

@testable import Capture

/// The rules in the kernel, in namespaces of their own, read back with `nft` and `ip`.
@Suite(.enabled(if: NamespaceLab.isRoot, "needs root, for network namespaces"))
struct CaptureTests {
    let capture = Capture(CaptureConfiguration(daemonUserID: NamespaceLab.daemonUserID))

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

    @Test func `leaves nothing behind, and other people's things as they were`() throws {
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

    @Test(arguments: damages.indices)
    func `finds damage, is told of it, and repairs it`(index: Int) throws {
        let damage = Self.damages[index]
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

    @Test func `resets a connection that was open before the rules came`() throws {
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

    @Test func `captures TCP and nothing else, for both families`() throws {
        let lab = try NamespaceLab()
        let capture = Capture(CaptureConfiguration(daemonUserID: NamespaceLab.daemonUserID))
        try capture.apply(in: lab.namespace())
        let text = try lab.behaviour("all")
        let found = try JSONDecoder().decode([String: [String: Observation]].self, from: Data(text.utf8))
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
            "udp out": Observation(talks: true),
            "udp in": Observation(talks: true),
            "icmp": Observation(talks: true),
        ]
        for (name, observation) in expected { #expect(found[name] == observation, "\(name)") }
        // Its packets stay in the namespace; all that matters is that they do not reach the peer.
        #expect(found["a forged connection mark"]?.at != "peer")
        #expect(found.count == expected.count + 1)
    }
}

extension CaptureRules {
    fileprivate func appending(_ rule: Rule) -> CaptureRules {
        var table = table
        table.chains[table.chains.count - 1].rules.append(rule)
        return CaptureRules(table: table, routing: routing)
    }
}
