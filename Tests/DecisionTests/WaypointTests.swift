import Address
import Decision
import Mesh
import TestSupport
import Testing

/// What a waypoint takes, and where it goes on to.
struct WaypointTests {
    /// A waypoint of two pods before one service, another service that does not use it, a client.
    struct World {
        var builder = SnapshotBuilder(node: "shop/wp")
        let front = NamespacedName(namespace: "shop", name: "wp.shop.svc.cluster.local")
        var web: Service
        let other: Service
        var server: Workload
        var me: Workload

        static func service(_ name: String, _ address: String, through waypoint: GatewayAddress? = nil) throws
            -> Service
        {
            Service(
                name: name, namespace: "shop", hostname: "\(name).shop.svc.cluster.local",
                addresses: [.init(network: "", prefix: try #require(Prefix(address)))],
                ports: [.init(servicePort: 80, targetPort: 8080)], waypoint: waypoint)
        }

        static func pod(_ name: String, _ address: String, _ services: [NamespacedName: [UInt16: UInt16]])
            throws -> Workload
        {
            Workload(
                uid: "c//Pod/shop/\(name)", name: name, namespace: "shop",
                addresses: [try #require(IPAddress(address))], tunnelProtocol: .hbone, serviceAccount: name,
                services: services)
        }

        init() throws {
            web = try Self.service("web", "10.1.0.1", through: GatewayAddress(destination: .hostname(front)))
            other = try Self.service("other", "10.1.0.2")
            server = try Self.pod("server", "10.0.0.2", [web.key: [:], other.key: [:]])
            me = try Self.pod("wp-1", "10.0.0.9", [front: [15_008: 15_008]])
            me.nativeTunnel = true
            builder.insert(
                Service(
                    name: "wp", namespace: "shop", hostname: front.name,
                    ports: [.init(servicePort: 15_008, targetPort: 15_008)]))
            for service in [web, other] { builder.insert(service) }
            for workload in [server, me, try Self.pod("wp-2", "10.0.0.10", [front: [15_008: 15_008]])] {
                builder.insert(workload)
            }
            builder.insert(try Self.pod("stranger", "10.0.0.3", [:]))
        }

        mutating func verdict(
            _ authority: String, as uid: String = "c//Pod/shop/wp-1", from namespace: String = "shop"
        ) throws -> (WaypointVerdict, WorkloadEntry, Snapshot) {
            let snapshot = builder.snapshot()
            let own = try #require(snapshot.workload(uid: uid))
            var trace = Trace.recording
            let verdict = waypoint(
                WaypointRequest(
                    authority: authority,
                    peer: Identity(
                        trustDomain: "cluster.local", namespace: namespace, serviceAccount: "client"),
                    source: try #require(IPAddress("10.0.0.7"))),
                at: own, policies: snapshot.attachedPolicySet(of: own.workload), snapshot: snapshot,
                trace: &trace)
            return (verdict, own, snapshot)
        }

        /// Where it goes on to, in words.
        mutating func plan(_ authority: String, without failed: Set<String> = []) throws -> String {
            let (verdict, own, snapshot) = try verdict(authority)
            guard case .serve(let target) = verdict else {
                if case .refuse(let reason) = verdict { return "refused: \(reason)" }
                return "?"
            }
            var random = SeededGenerator(seed: 1)
            var trace = Trace.off
            switch endpoint(
                of: target, from: own, without: failed, snapshot: snapshot, randomness: &random, trace: &trace
            ) {
            case .plain(let plan): return "plain \(plan.address)"
            case .tunnel(let plan):
                return
                    "tunnel \(plan.address) for \(plan.authority) expecting \(plan.expected.map(\.serviceAccount))"
            case .sameNode: return "same node"
            case .refuse(let reason): return "refused: \(reason)"
            }
        }
    }

    @Test(arguments: ["10.1.0.1:80", "web.shop.svc.cluster.local:80", "[::ffff:10.1.0.1]:80"])
    func `a service that uses it is carried on to an endpoint`(authority: String) throws {
        var world = try World()
        #expect(
            try world.plan(authority)
                == "tunnel 10.0.0.2:15008 for 10.0.0.2:8080 expecting [\"server\"]")
    }

    // What is called, and why it is refused.
    static let refused: [(String, String)] = [
        ("10.1.0.2:80", "10.1.0.2:80 is not served by this waypoint"),
        ("other.shop.svc.cluster.local:80", "other.shop.svc.cluster.local:80 is not served by this waypoint"),
        ("10.0.0.2:8080", "10.0.0.2:8080 is not served by this waypoint"),
        ("10.0.0.9:15020", "10.0.0.9:15020 is not served by this waypoint"),
        ("wp.shop.svc.cluster.local:15008", "wp.shop.svc.cluster.local:15008 is not served by this waypoint"),
        ("127.0.0.1:15000", "127.0.0.1:15000 is not served by this waypoint"),
        ("169.254.169.254:80", "169.254.169.254:80 is not served by this waypoint"),
        ("192.0.2.1:443", "192.0.2.1:443 is not served by this waypoint"),
        ("example.org:443", "example.org:443 is not served by this waypoint"),
        ("10.1.0.1", "invalid CONNECT address 10.1.0.1"), ("", "invalid CONNECT address "),
        ("10.1.0.1:81", "no healthy upstream: 10.1.0.1:81"),
    ]

    @Test(arguments: refused)
    func `everything else is refused`(row: (authority: String, reason: String)) throws {
        var world = try World()
        #expect(try world.plan(row.authority) == "refused: \(row.reason)")
    }

    @Test func `a pod that is none of the waypoint's serves nothing`() throws {
        var world = try World()
        guard case (.refuse(.notServed), _, _) = try world.verdict("10.1.0.1:80", as: "c//Pod/shop/stranger")
        else {
            Issue.record("served")
            return
        }
    }

    @Test func `workloads that use it are carried on, whoever is their waypoint`() throws {
        var world = try World()
        world.server.waypoint = GatewayAddress(destination: .hostname(world.front))
        world.builder.insert(world.server)
        #expect(
            try world.plan("10.0.0.2:9090")
                == "tunnel 10.0.0.2:15008 for 10.0.0.2:9090 expecting [\"server\"]")
        // By address as well, and through no waypoint again.
        let address = try #require(IPAddress("10.0.0.9"))
        world.server.waypoint = GatewayAddress(
            destination: .address(NetworkAddress(network: "", address: address)))
        world.builder.insert(world.server)
        #expect(try world.plan("10.0.0.2:9090").hasPrefix("tunnel 10.0.0.2:15008"))
        #expect(try world.plan("10.1.0.1:80").hasPrefix("tunnel 10.0.0.2:15008"))
    }

    @Test func `both ends of a weighted pair serve`() throws {
        var world = try World()
        world.web.waypoint = nil
        world.web.weightedWaypoints = [
            .init(
                destination: GatewayAddress(
                    destination: .hostname(NamespacedName(namespace: "shop", name: "new"))), weight: 100),
            .init(destination: GatewayAddress(destination: .hostname(world.front)), weight: 0),
        ]
        world.builder.insert(world.web)
        #expect(try world.plan("10.1.0.1:80").hasPrefix("tunnel"))
    }

    @Test func `an endpoint that has failed is passed over`() throws {
        var world = try World()
        world.builder.insert(try World.pod("second", "10.0.0.4", [world.web.key: [:]]))
        for failed in ["server", "second"] {
            let plan = try world.plan("10.1.0.1:80", without: ["c//Pod/shop/\(failed)"])
            #expect(plan.contains(failed == "server" ? "10.0.0.4" : "10.0.0.2"))
        }
        #expect(
            try world.plan("10.1.0.1:80", without: ["c//Pod/shop/server", "c//Pod/shop/second"])
                == "refused: no healthy upstream: 10.1.0.1:80")
    }

    // An endpoint's address, and why it is not dialled.
    static let forbidden: [(String, String)] = [
        ("127.0.0.1", "a waypoint does not connect to 127.0.0.1:8080"),
        ("169.254.169.254", "a waypoint does not connect to 169.254.169.254:8080"),
        ("fe80::1", "a waypoint does not connect to [fe80::1]:8080"),
        ("0.0.0.0", "a waypoint does not connect to 0.0.0.0:8080"),
        ("224.0.0.1", "a waypoint does not connect to 224.0.0.1:8080"),
        ("10.0.0.9", "attempted recursive call to ourselves"),
    ]

    @Test(arguments: forbidden)
    func `no configuration makes it call itself or its machine`(row: (address: String, reason: String)) throws
    {
        for isInMesh in [true, false] {
            var world = try World()
            var endpoint = try World.pod("bad", row.address, [world.web.key: [:]])
            endpoint.tunnelProtocol = isInMesh ? .hbone : .none
            world.builder.insert(endpoint)
            #expect(
                try world.plan("10.1.0.1:80", without: ["c//Pod/shop/server"]) == "refused: \(row.reason)")
        }
    }

    @Test func `its own policies are asked, those of its namespace are not`() throws {
        var world = try World()
        func policy(_ name: String, _ scope: Policy.Scope) -> Policy {
            Policy(
                name: NamespacedName(namespace: "shop", name: name), scope: scope, action: .allow, rules: [])
        }
        world.builder.insert(policy("all", .namespace))
        guard case (.serve, _, _) = try world.verdict("10.1.0.1:80") else {
            Issue.record("a namespace's policy was asked")
            return
        }
        world.builder.insert(policy("mine", .workloadSelector))
        world.me.authorizationPolicies = [NamespacedName(namespace: "shop", name: "mine")]
        world.builder.insert(world.me)
        guard case (.refuse(.unmatchedByAllow), _, _) = try world.verdict("10.1.0.1:80") else {
            Issue.record("its own policy was not asked")
            return
        }
        world.me.authorizationPolicies.append(NamespacedName(namespace: "shop", name: "missing"))
        world.builder.insert(world.me)
        guard case (.refuse(.missingPolicy), _, _) = try world.verdict("10.1.0.1:80") else {
            Issue.record("a policy that has not arrived was taken for permission")
            return
        }
    }
}
