import Address
import Decision
import Mesh
import TestSupport
import Testing

/// When two workloads of one daemon are joined, and all the reasons for a tunnel all the same.
struct SameNodeTests {
    /// A client and a server, both captured by this daemon, and a service of the server's.
    struct World {
        var client = workload("client", ["10.0.0.1", "fd00::1"])
        var server = workload("server", ["10.0.0.2", "fd00::2"])
        var service = Service(
            name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
            addresses: [
                .init(network: "", prefix: prefix("10.1.0.1")), .init(network: "", prefix: prefix("fd01::1")),
            ], ports: [.init(servicePort: 80, targetPort: 8080)])
        var pods = [
            localPod("client", ["10.0.0.1", "fd00::1"]), localPod("server", ["10.0.0.2", "fd00::2"]),
        ]
        var others: [Workload] = []
        var alwaysEncrypts = false
        /// Where the connection comes from; nil when nobody has opened it yet.
        var from: String? = "10.0.0.1"
        var caller = "c//Pod/shop/client"
        var held: HeldPods { HeldPods(pods, alwaysEncrypts: alwaysEncrypts) }

        init() {
            server.services = [service.key: [:]]
        }

        func plan(_ target: String) throws -> (plan: OutboundPlan, reasons: [String]) {
            var builder = SnapshotBuilder(node: "n1")
            for one in [client, server] + others { builder.insert(one) }
            builder.insert(service)
            let snapshot = builder.snapshot()
            var trace = Trace.recording
            var random = SeededGenerator(seed: 1)
            let plan = outbound(
                from: try #require(snapshot.workload(uid: caller)), at: from.map(ip),
                to: try #require(SocketAddress(target)), held: held, snapshot: snapshot, randomness: &random,
                trace: &trace)
            return (plan, trace.steps)
        }
    }

    static func workload(_ name: String, _ addresses: [String]) -> Workload {
        Workload(
            uid: "c//Pod/shop/\(name)", name: name, namespace: "shop", addresses: addresses.map(ip),
            tunnelProtocol: .hbone, serviceAccount: name, node: "n1")
    }

    static func localPod(_ name: String, _ addresses: [String], uid: String? = nil) -> LocalPod {
        LocalPod(
            uid: uid ?? "uid-\(name)", namespace: "shop", name: name, serviceAccount: name, labels: [:],
            addresses: addresses.map(ip), networkNamespace: name)
    }

    static func ip(_ text: String) -> IPAddress { IPAddress(text) ?? .anyIPv4 }
    static func prefix(_ text: String) -> Prefix { Prefix(ip(text)) }

    static let joined: [(target: String, from: String?, address: String, source: String)] = [
        ("10.0.0.2:9090", "10.0.0.1", "10.0.0.2:9090", "10.0.0.1"),
        ("[fd00::2]:9090", "fd00::1", "[fd00::2]:9090", "fd00::1"),
        // Through the service, with its port.
        ("10.1.0.1:80", "10.0.0.1", "10.0.0.2:8080", "10.0.0.1"),
        ("[fd01::1]:80", "fd00::1", "[fd00::2]:8080", "fd00::1"),
        // As a tunnel would be: from the pod's own address, whatever the connection claims to come from.
        ("10.0.0.2:9090", "192.0.2.7", "10.0.0.2:9090", "10.0.0.1"),
        ("10.0.0.2:9090", nil, "10.0.0.2:9090", "10.0.0.1"),
        ("[::ffff:10.0.0.2]:9090", "::ffff:10.0.0.1", "10.0.0.2:9090", "10.0.0.1"),
        // The proxy's own ports are left to the inbound rules, which refuse them.
        ("10.0.0.2:15008", "10.0.0.1", "10.0.0.2:15008", "10.0.0.1"),
    ]

    @Test(arguments: joined)
    func `two workloads of this daemon are joined`(
        row: (target: String, from: String?, address: String, source: String)
    ) throws {
        var world = World()
        world.from = row.from
        let (plan, reasons) = try world.plan(row.target)
        guard case .sameNode(let joined) = plan else {
            Issue.record("\(row): not joined: \(reasons)")
            return
        }
        #expect(joined.address.description == row.address && joined.source.description == row.source)
        #expect(joined.workload.workload.name == "server")
        #expect((joined.service != nil) == row.target.hasSuffix(":80"))
        #expect(
            reasons.last == "both are workloads of this node: joined without a tunnel, from \(row.source)")
    }

    // What is different, what is dialled, and what the reasons say; nothing where the pair is not this daemon's at all.
    static let tunnelled:
        [(name: String, change: @Sendable (inout World) -> Void, target: String, reason: String?)] = [
            ("the destination is of another node", { $0.server.node = "n2" }, "10.0.0.2:80", nil),
            ("the destination is not captured yet", { $0.pods.removeLast() }, "10.0.0.2:80", nil),
            ("the source is not captured", { $0.pods.removeFirst() }, "10.0.0.2:80", nil),
            ("it was captured as another account", { $0.pods[1].serviceAccount = "old" }, "10.0.0.2:80", nil),
            (
                "the source was captured as another account", { $0.pods[0].serviceAccount = "old" },
                "10.0.0.2:80", nil
            ),
            (
                "its namespace holds another address", { $0.pods[1].addresses = [ip("10.0.0.9")] },
                "10.0.0.2:80", "10.0.0.2 is no address of the captured pod"
            ),
            (
                "the destination asks for encryption", { $0.server.encryptsOnSameNode = true }, "10.0.0.2:80",
                "c//Pod/shop/server asks for encryption"
            ),
            (
                "the source asks for encryption", { $0.client.encryptsOnSameNode = true }, "10.0.0.2:80",
                "c//Pod/shop/client asks for encryption"
            ),
            (
                "a service's endpoint asks for encryption", { $0.server.encryptsOnSameNode = true },
                "10.1.0.1:80", "c//Pod/shop/server asks for encryption"
            ),
            (
                "the node asks for encryption", { $0.alwaysEncrypts = true }, "10.0.0.2:80",
                "the node asks for encryption"
            ),
            (
                "the destination speaks HBONE by itself", { $0.server.nativeTunnel = true }, "10.0.0.2:80",
                "speaks HBONE or PROXY by itself"
            ),
            (
                "the source speaks HBONE by itself", { $0.client.nativeTunnel = true }, "10.0.0.2:80",
                "speaks HBONE or PROXY by itself"
            ),
            (
                "the destination wants PROXY", { $0.server.applicationTunnel = .init(kind: .proxy, port: 0) },
                "10.0.0.2:80", "speaks HBONE or PROXY by itself"
            ),
            (
                "another trust domain", { $0.server.trustDomain = "other" }, "10.0.0.2:80",
                "different trust domains"
            ),
            (
                "no address of the family", { $0.pods[0].addresses = [ip("10.0.0.1")] }, "[fd00::2]:80",
                "no address of that family"
            ),
            (
                "it calls itself from an address that is not its own",
                {
                    $0.caller = "c//Pod/shop/server"; $0.from = "192.0.2.7"
                }, "10.0.0.2:80", "it calls itself"
            ),
        ]

    @Test(arguments: tunnelled.indices)
    func `everything in doubt takes the tunnel`(index: Int) throws {
        let row = Self.tunnelled[index]
        var world = World()
        row.change(&world)
        let (plan, reasons) = try world.plan(row.target)
        guard case .tunnel(let tunnel) = plan, tunnel.hop == .workload else {
            Issue.record("\(row.name): \(plan)")
            return
        }
        let told = reasons.filter { $0.contains("both are workloads of this node") }
        if let reason = row.reason {
            #expect(told.count == 1 && told[0].contains(reason), "\(row.name): \(reasons)")
        } else {
            #expect(told == [], "\(row.name)")
        }
    }

    @Test func `a pod that calls itself is joined to itself`() throws {
        var world = World()
        world.caller = "c//Pod/shop/server"
        world.from = "10.0.0.2"
        guard case .sameNode(let joined) = try world.plan("10.1.0.1:80").plan else {
            Issue.record("not joined")
            return
        }
        #expect(joined.source.description == "10.0.0.2" && joined.address.description == "10.0.0.2:8080")
    }

    @Test func `a workload outside of the mesh is plain though it is near`() throws {
        var world = World()
        world.server.tunnelProtocol = .none
        guard case .plain = try world.plan("10.0.0.2:80").plan else {
            Issue.record("expected plain")
            return
        }
    }

    @Test(arguments: ["10.0.0.2:80", "10.1.0.1:80"])
    func `a waypoint is chosen first, and neither end of a joined connection`(target: String) throws {
        var world = World()
        let gateway = GatewayAddress(
            destination: .address(NetworkAddress(network: "", address: Self.ip("10.0.0.9"))))
        world.server.waypoint = gateway
        world.service.waypoint = gateway
        world.others = [Self.workload("waypoint", ["10.0.0.9"])]
        world.pods.append(Self.localPod("waypoint", ["10.0.0.9"]))
        guard case .tunnel(let through) = try world.plan(target).plan, through.hop == .waypoint else {
            Issue.record("expected the waypoint")
            return
        }
        world.caller = "c//Pod/shop/waypoint"
        world.from = "10.0.0.9"
        guard case .tunnel(let own) = try world.plan("10.0.0.2:80").plan, own.hop == .workload else {
            Issue.record("expected a tunnel from the waypoint")
            return
        }
    }

    @Test func `the pods that are held follow captures, also of one that was made anew`() throws {
        var world = World()
        var held = world.held
        let again = Self.localPod("server", ["10.0.0.2"], uid: "uid-anew")
        held.insert(again)
        // The old one leaves after the new one has come.
        held.remove(world.pods[1])
        world.pods = []
        var builder = SnapshotBuilder(node: "n1")
        builder.insert(world.server)
        let snapshot = builder.snapshot()
        let entry = try #require(snapshot.workload(uid: world.server.uid))
        #expect(held.pod(of: entry, snapshot) == again)
        held.remove(again)
        #expect(held.pod(of: entry, snapshot) == nil)
        // An entry of an older snapshot is not taken for the workload of today.
        held.insert(again)
        builder.insert(world.server)
        #expect(held.pod(of: entry, builder.snapshot()) == nil)
    }
}
