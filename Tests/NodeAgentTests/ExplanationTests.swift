import Decision
import Mesh
import TestSupport
import Testing

@testable import NodeAgent

struct ExplanationTests {
    private func explain(
        _ destination: String, held: HeldPods = HeldPods(), _ change: (inout Fixture) -> Void = { _ in }
    ) throws -> String {
        var fixture = Fixture()
        change(&fixture)
        let snapshot = fixture.builder.snapshot()
        let source = try #require(snapshot.localWorkload(namespace: "shop", name: "client"))
        var random = SeededGenerator(seed: 1)
        let explanation = Explanation(
            from: source, to: socketAddress(destination), held: held, snapshot: snapshot, randomness: &random)
        return String(decoding: explanation.json, as: UTF8.self)
    }

    @Test func `shows the tunnel that a service leads to and what the other end would say`() throws {
        let text = try explain("10.96.0.1:80")
        #expect(text.contains("\"plan\": \"tunnel\""))
        #expect(text.contains("\"address\": \"10.0.1.1:15008\""))
        #expect(text.contains("asking for 10.0.1.1:8080"))
        #expect(text.contains("\"service\": \"shop/server.shop.svc.cluster.local\""))
        #expect(text.contains("no allow policy applies"))
        #expect(text.contains("\"verdict\": \"allowed\"\n}"))
    }

    @Test func `shows that two pods of the node are joined, and what the other's policies say`() throws {
        let held = HeldPods(
            [("client", "10.0.0.1"), ("server", "10.0.1.1")].map { name, text in
                LocalPod(
                    uid: name, namespace: "shop", name: name, serviceAccount: name, labels: [:],
                    addresses: [address(text)], networkNamespace: name)
            })
        func near(_ fixture: inout Fixture) {
            guard var server = fixture.builder.workloads.first(where: { $0.name == "server" }) else { return }
            server.node = "node-a"
            fixture.builder.insert(server)
        }
        let text = try explain("10.96.0.1:80", held: held, near)
        #expect(text.contains("\"plan\": \"same-node\"") && text.contains("\"address\": \"10.0.1.1:8080\""))
        #expect(text.contains("joined within this node to 10.0.1.1:8080, seen to come from 10.0.0.1"))
        #expect(text.contains("no allow policy applies") && text.contains("\"verdict\": \"allowed\"\n}"))
        let denied = try explain("10.96.0.1:80", held: held) {
            near(&$0)
            $0.allow(only: "other")
        }
        #expect(denied.contains("allow policies exist, but none allowed"))
        #expect(denied.contains("\"verdict\": \"denied\"\n}"))
    }

    @Test func `shows a waypoint's part, and who the other end sees`() throws {
        func through(_ fixture: inout Fixture) {
            let front = NamespacedName(namespace: "shop", name: "wp.shop.svc.cluster.local")
            guard var service = fixture.builder.services.first(where: { $0.name == "server" }) else { return }
            service.waypoint = GatewayAddress(destination: .hostname(front))
            fixture.builder.insert(service)
            fixture.builder.insert(
                Service(
                    name: "wp", namespace: "shop", hostname: front.name,
                    ports: [.init(servicePort: 15_008, targetPort: 15_008)]))
            fixture.builder.insert(
                Workload(
                    uid: "c//Pod/shop/wp", name: "wp", namespace: "shop", addresses: [address("10.0.3.1")],
                    tunnelProtocol: .hbone, serviceAccount: "wp", nativeTunnel: true,
                    services: [front: [15_008: 15_008]]))
        }
        let text = try explain("10.96.0.1:80", through)
        #expect(text.contains("tunnel to the waypoint at 10.0.3.1:15008, asking for 10.96.0.1:80"))
        #expect(text.contains("tunnel to 10.0.1.1:15008, asking for 10.0.1.1:8080"))
        #expect(text.contains("\"verdict\": \"allowed\"\n}"))
        let alone = try explain("10.96.0.1:80") {
            through(&$0)
            $0.allow(only: "wp")
        }
        #expect(
            alone.contains("\"policy\": \"shop/only-wp\"") && alone.contains("\"verdict\": \"allowed\"\n}"))
        let denied = try explain("10.96.0.1:80") {
            through(&$0)
            $0.allow(only: "client")
        }
        #expect(denied.contains("allow policies exist, but none allowed"))
        #expect(denied.contains("\"verdict\": \"denied\"\n}"))
    }

    @Test func `names the policy that allows or that nothing does`() throws {
        let allowed = try explain("10.96.0.1:80") { $0.allow(only: "client") }
        #expect(allowed.contains("\"policy\": \"shop/only-client\""))
        let denied = try explain("10.96.0.1:80") { $0.allow(only: "other") }
        #expect(denied.contains("allow policies exist, but none allowed"))
        #expect(denied.contains("\"verdict\": \"denied\"\n}"))
    }

    @Test func `says what passes through and what is refused`() throws {
        #expect(try explain("192.0.2.1:443").contains("\"verdict\": \"passthrough\"\n}"))
        #expect(try explain("10.0.2.1:443").contains("\"plan\": \"passthrough\""))
        let refused = try explain("10.96.0.1:81")
        #expect(
            refused.contains("\"plan\": \"reject\"") && refused.contains("no healthy upstream: 10.96.0.1:81"))
    }
}
