import Address
import Daemon
import Mesh
import Testing

@testable import NodeAgent

struct ConfigDumpTests {
    private var text: String {
        var fixture = Fixture()
        fixture.allow(only: "client")
        let pod = LocalPod(
            uid: "uid-1", namespace: "shop", name: "client", serviceAccount: "client", labels: [:],
            addresses: [address("10.0.0.1")], networkNamespace: "client")
        let connection = LiveConnection(
            direction: .outbound, source: socketAddress("10.0.0.1:4000"), originalDestination: "10.96.0.1:80",
            actualDestination: socketAddress("10.0.1.1:15008"), path: .tunnel, bytesFromClient: 1,
            bytesToClient: 2)
        let dump = ConfigDump(
            snapshot: fixture.builder.snapshot(),
            certificates: [
                .init(
                    identity: "spiffe://cluster.local/ns/shop/sa/client", state: "Available",
                    chain: [
                        .init(
                            pem: "PEM", serial: "17", validFrom: "2026-01-01T00:00:00Z",
                            expiration: "2026-01-02T00:00:00Z")
                    ])
            ],
            pods: [.init(pod: pod, isUp: true, reason: "", connections: [connection])],
            configuration: [("network", "")], version: BuildVersion(version: "9"))
        return String(decoding: dump.json, as: UTF8.self)
    }

    @Test func `has ztunnel's top-level keys in their order`() {
        let keys = text.split(separator: "\n").filter { $0.hasPrefix("  \"") }
            .compactMap { $0.split(separator: "\"").dropFirst().first }
        #expect(
            keys == [
                "workloads", "services", "policies", "stagedServices", "staticConfig", "version", "config",
                "certificates", "workloadState",
            ])
    }

    @Test func `leaves defaults out and keeps what is set`() {
        #expect(text.contains("\"protocol\": \"HBONE\""))
        #expect(text.contains("\"services\": [\n        \"shop/server.shop.svc.cluster.local\"\n      ]"))
        #expect(text.contains("\"vips\": [\n        \"/10.96.0.1\"\n      ]"))
        #expect(text.contains("\"port\": {\n            \"80\": 8080\n          }"))
        #expect(!text.contains("\"waypoint\"") && !text.contains("\"capacity\""))
        #expect(text.contains("\"Exact\": \"cluster.local/ns/shop/sa/client\""))
    }

    @Test func `shows certificates and connections`() {
        #expect(text.contains("\"pem\": \"UEVN\""))
        #expect(text.contains("\"uid-1\": {\n      \"state\": \"Up\""))
        #expect(text.contains("\"originalDst\": \"10.96.0.1:80\""))
        #expect(text.contains("\"inbound\": [],"))
    }
}
