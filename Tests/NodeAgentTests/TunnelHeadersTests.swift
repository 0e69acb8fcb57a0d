import Daemon
import Mesh
import TestSupport
import Testing

@testable import NodeAgent

struct TunnelHeadersTests {
    @Test func `baggage has ztunnel's members in its order and leaves empty ones out`() {
        let workload = Workload(
            uid: "u", name: "server-1", namespace: "shop", canonicalName: "server", canonicalRevision: "v2",
            kind: .deployment, workloadName: "server", locality: Locality(region: "eu", zone: "eu-1"))
        #expect(
            TunnelHeaders.baggage(of: workload) == """
                k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=server,service.name=server,\
                service.version=v2,cloud.region=eu,cloud.availability_zone=eu-1
                """)
        #expect(
            TunnelHeaders.baggage(of: Workload(uid: "u", name: "x", namespace: "shop", clusterID: ""))
                == "k8s.namespace.name=shop")
    }

    @Test(arguments: ["a,b", "a b", "a\r\nx: y", "a;b", "a\"b", "é", "a=b", "\u{7f}"])
    func `baggage carries no value that would read as something else`(hostile: String) {
        let workload = Workload(uid: "u", name: "x", namespace: "shop", workloadName: hostile, clusterID: "")
        #expect(TunnelHeaders.baggage(of: workload) == "k8s.namespace.name=shop")
    }

    @Test func `forwarded names the client and the service`() {
        let service = Service(name: "s", namespace: "shop", hostname: "s.shop")
        #expect(
            TunnelHeaders.forwarded(for: socketAddress("[fd00::1]:80"), service: service)
                == "for=\"[fd00::1]:80\";host=s.shop")
        #expect(
            TunnelHeaders.forwarded(for: socketAddress("10.0.0.1:80"), service: nil) == "for=\"10.0.0.1:80\"")
    }

    @Test func `the host of forwarded is read with and without quotes`() {
        #expect(TunnelHeaders.forwardedHost("for=\"10.0.0.1:80\";host=s.shop") == "s.shop")
        #expect(TunnelHeaders.forwardedHost("Host=\"s.shop\" ; for=x") == "s.shop")
        for text in [
            "", "for=x", "host=", "host=\"\"", "host", ";;=;", String(repeating: "host=a;", count: 1_000),
        ] {
            #expect(TunnelHeaders.forwardedHost(text) == nil)
        }
    }

    @Test func `a trace context is 55 characters of the right shape`() {
        var random = SeededGenerator(seed: 1)
        for _ in 0..<100 {
            let parts = TunnelHeaders.traceparent(randomness: &random).split(separator: "-")
            #expect(parts.map(\.count) == [2, 32, 16, 2])
        }
    }
}

struct DestinationServiceTests {
    @Test func `the named service wins if the workload is part of it, else the port decides`() throws {
        let snapshot = {
            var fixture = Fixture()
            fixture.builder.insert(Service(name: "a", namespace: "shop", hostname: "a.shop"))
            return fixture.builder.snapshot()
        }()
        let server = try #require(snapshot.workload(uid: "c//Pod/shop/server")).workload
        func name(_ port: UInt16, _ host: String?) -> String? {
            destinationService(of: server, port: port, named: host, snapshot: snapshot)?.service.hostname
        }
        #expect(name(1, "server.shop.svc.cluster.local") == "server.shop.svc.cluster.local")
        #expect(name(8080, nil) == "server.shop.svc.cluster.local")
        #expect(name(8080, "a.shop") == "server.shop.svc.cluster.local")
        #expect(name(1, "a.shop") == nil)
    }
}
