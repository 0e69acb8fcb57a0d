import Address
import Decision
import Mesh
import TestSupport
import Testing

/// Rows follow ztunnel.md §1.4 and §1.5.
struct OutboundTests {
    /// A client, two pods of a service in the mesh, one outside of it, a waypoint, and a pod of another network.
    struct World {
        var builder = SnapshotBuilder(node: "n1")
        let client = Workload(
            uid: "c//Pod/shop/client", name: "client", namespace: "shop", addresses: [],
            tunnelProtocol: .hbone, serviceAccount: "client", node: "n1")
        var service = Service(
            name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local", addresses: [],
            ports: [.init(servicePort: 80, targetPort: 8080)])

        init() throws {
            service.addresses = [.init(network: "", prefix: try #require(Prefix("10.1.0.1")))]
            builder.insert(client)
            builder.insert(service)
        }

        func pod(
            _ name: String, _ address: String, hbone: Bool = true, network: String = "",
            services: [NamespacedName: [UInt16: UInt16]]? = nil
        ) throws -> Workload {
            Workload(
                uid: "c//Pod/shop/\(name)", name: name, namespace: "shop",
                addresses: [try #require(IPAddress(address))], network: network,
                tunnelProtocol: hbone ? .hbone : .none, serviceAccount: name,
                services: services ?? [service.key: [:]])
        }

        mutating func plan(
            _ target: String, seed: UInt64 = 1, from uid: String = "c//Pod/shop/client",
            without failed: Set<String> = []
        ) throws -> (OutboundPlan, [String]) {
            let snapshot = builder.snapshot()
            var trace = Trace.recording
            var random = SeededGenerator(seed: seed)
            let source = try #require(snapshot.workload(uid: uid))
            let plan = outbound(
                from: source, at: nil, to: try #require(SocketAddress(target)), held: HeldPods(),
                without: failed, snapshot: snapshot, randomness: &random, trace: &trace)
            return (plan, trace.steps)
        }
    }

    @Test func `an unknown destination passes as it is`() throws {
        var world = try World()
        guard case (.plain(let plan), let steps) = try world.plan("192.0.2.1:443") else {
            Issue.record("expected passthrough")
            return
        }
        #expect(plan.address.description == "192.0.2.1:443" && plan.workload == nil)
        #expect(steps.last?.contains("unknown to the mesh") == true)
    }

    @Test(arguments: ["127.0.0.1:15001", "127.0.0.1:15006", "[::1]:15008"])
    func `calls to the proxy itself are refused`(target: String) throws {
        var world = try World()
        guard case (.refuse(.recursiveCall), _) = try world.plan(target) else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func `a pod in the mesh is reached by HBONE, with its identity expected`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2"))
        guard case (.tunnel(let plan), _) = try world.plan("10.0.0.2:9090") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(plan.address.description == "10.0.0.2:15008" && plan.authority == "10.0.0.2:9090")
        #expect(plan.expected.map(\.principal) == ["cluster.local/ns/shop/sa/web"])
        #expect(plan.service == nil)
    }

    @Test func `a mapped address finds the same pod`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2"))
        guard case (.tunnel(let plan), _) = try world.plan("[::ffff:10.0.0.2]:9090") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(plan.authority == "10.0.0.2:9090")
    }

    @Test func `a pod outside of the mesh is plain TCP`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2", hbone: false))
        guard case (.plain(let plan), _) = try world.plan("10.0.0.2:9090") else {
            Issue.record("expected plain")
            return
        }
        #expect(plan.workload?.workload.name == "web")
    }

    @Test func `a service is translated to an endpoint and its port`() throws {
        var world = try World()
        world.service.subjectAltNames = ["spiffe://other/ns/x/sa/y", "https://not.spiffe"]
        world.builder.insert(world.service)
        world.builder.insert(try world.pod("web", "10.0.0.2"))
        guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(plan.address.description == "10.0.0.2:15008" && plan.authority == "10.0.0.2:8080")
        #expect(plan.expected.map(\.principal) == ["cluster.local/ns/shop/sa/web", "other/ns/x/sa/y"])
        #expect(plan.service?.service.name == "web")
    }

    @Test func `an endpoint outside of the mesh behind a service is plain TCP to it`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2", hbone: false))
        guard case (.plain(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected plain")
            return
        }
        #expect(plan.address.description == "10.0.0.2:8080")
    }

    @Test func `an endpoint's own port mapping goes first`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2", services: [world.service.key: [80: 9999]]))
        guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(plan.authority == "10.0.0.2:9999")
    }

    @Test(arguments: ["10.1.0.1:80", "10.1.0.1:81"])
    func `a service without an endpoint or without the port is refused, never passed`(target: String) throws {
        var world = try World()
        if target.hasSuffix("81") { world.builder.insert(try world.pod("web", "10.0.0.2")) }
        guard case (.refuse(.noHealthyUpstream), _) = try world.plan(target) else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func `endpoints share connections by their capacity`() throws {
        var world = try World()
        var heavy = try world.pod("heavy", "10.0.0.3")
        heavy.capacity = 3
        var none = try world.pod("none", "10.0.0.4")
        none.capacity = 0
        world.builder.insert(try world.pod("light", "10.0.0.2"))
        world.builder.insert(heavy)
        world.builder.insert(none)
        var counts: [String: Int] = [:]
        for seed in 0..<400 {
            guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80", seed: UInt64(seed)) else {
                continue
            }
            counts[plan.workload.workload.name, default: 0] += 1
        }
        #expect(counts["none"] == nil)
        #expect((250...350).contains(counts["heavy"] ?? 0) && counts.values.reduce(0, +) == 400)
    }

    @Test func `an endpoint that has failed is not chosen again, however much it weighs`() throws {
        var world = try World()
        var heavy = try world.pod("heavy", "10.0.0.3")
        heavy.capacity = 1_000_000
        world.builder.insert(heavy)
        world.builder.insert(try world.pod("light", "10.0.0.2"))
        for seed in 0..<20 as Range<UInt64> {
            guard
                case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80", seed: seed, without: [heavy.uid])
            else {
                Issue.record("expected a tunnel")
                continue
            }
            #expect(plan.workload.workload.name == "light")
        }
        let all: Set = [heavy.uid, "c//Pod/shop/light"]
        guard case (.refuse(.noHealthyUpstream), _) = try world.plan("10.1.0.1:80", without: all) else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func `strict and failover keep to the locality they ask for`() throws {
        var world = try World()
        var near = try world.pod("near", "10.0.0.2")
        near.node = "n1"
        world.builder.insert(near)
        world.builder.insert(try world.pod("far", "10.0.0.3"))
        for mode in [Service.LoadBalancing.Mode.strict, .failover] {
            world.service.loadBalancing = .init(routingPreference: [.node], mode: mode)
            world.builder.insert(world.service)
            for seed in 0..<20 {
                guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80", seed: UInt64(seed)) else {
                    Issue.record("expected a tunnel")
                    return
                }
                #expect(plan.workload.workload.name == "near")
            }
        }
        world.builder.removeAddress("c//Pod/shop/near")
        guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("failover must reach the far one")
            return
        }
        #expect(plan.workload.workload.name == "far")
        world.service.loadBalancing.mode = .strict
        world.builder.insert(world.service)
        guard case (.refuse(.noHealthyUpstream), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("strict must refuse")
            return
        }
    }

    @Test func `a service with a waypoint goes to it with the virtual address as target`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2"))
        world.builder.insert(try world.pod("waypoint", "10.0.0.9", services: [:]))
        world.service.waypoint = GatewayAddress(
            destination: .address(NetworkAddress(network: "", address: try #require(IPAddress("10.0.0.9")))))
        world.builder.insert(world.service)
        guard case (.tunnel(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(plan.address.description == "10.0.0.9:15008" && plan.authority == "10.1.0.1:80")
        #expect(plan.expected.map(\.serviceAccount) == ["waypoint"])
        guard case .waypoint = plan.hop else {
            Issue.record("expected the waypoint hop")
            return
        }
    }

    @Test func `a waypoint that is away is not walked around`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2"))
        world.service.waypoint = GatewayAddress(
            destination: .hostname(NamespacedName(namespace: "shop", name: "waypoint.shop.svc.cluster.local"))
        )
        world.builder.insert(world.service)
        guard case (.refuse(.unknownWaypoint), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func `a workload's waypoint serves calls to its address, but not its own calls`() throws {
        var world = try World()
        let address = NetworkAddress(network: "", address: try #require(IPAddress("10.0.0.9")))
        var web = try world.pod("web", "10.0.0.2")
        web.waypoint = GatewayAddress(destination: .address(address))
        world.builder.insert(web)
        world.builder.insert(try world.pod("waypoint", "10.0.0.9", services: [:]))
        guard case (.tunnel(let through), _) = try world.plan("10.0.0.2:80") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(through.address.description == "10.0.0.9:15008" && through.authority == "10.0.0.2:80")
        guard case (.tunnel(let own), _) = try world.plan("10.0.0.2:80", from: "c//Pod/shop/waypoint") else {
            Issue.record("expected a tunnel")
            return
        }
        #expect(own.address.description == "10.0.0.2:15008")
    }

    @Test func `another network without a gateway is refused`() throws {
        var world = try World()
        world.builder.insert(try world.pod("web", "10.0.0.2", network: "remote"))
        guard case (.refuse(.unknownNetworkGateway), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func `a passthrough service keeps the original destination`() throws {
        var world = try World()
        world.service.loadBalancing.mode = .passthrough
        world.builder.insert(world.service)
        guard case (.plain(let plan), _) = try world.plan("10.1.0.1:80") else {
            Issue.record("expected plain")
            return
        }
        #expect(plan.address.description == "10.1.0.1:80")
    }
}
