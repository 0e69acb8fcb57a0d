import Address
import Linux
import Mesh
import Metrics
import Testing

@testable import Telemetry

struct ConnectionMetricsTests {
    private let registry = Registry()

    private func record(_ direction: ConnectionRecord.Direction = .outbound) throws -> ConnectionRecord {
        var builder = SnapshotBuilder(node: "")
        builder.insert(
            Workload(
                uid: "c", name: "client-1", namespace: "shop", canonicalName: "client",
                canonicalRevision: "v1", workloadName: "client",
                locality: Locality(region: "eu", zone: "eu-1")))
        builder.insert(Service(name: "server", namespace: "shop", hostname: "server.shop"))
        let snapshot = builder.snapshot()
        return ConnectionRecord(
            direction: direction, source: .init(address: nil, workload: snapshot.workload(uid: "c")),
            destination: .init(
                address: nil, identity: Identity(spiffe: "spiffe://cluster.local/ns/shop/sa/server")),
            service: snapshot.service(NamespacedName(namespace: "shop", name: "server.shop")),
            path: .tunnel)
    }

    private func labels(reporter: String, flag: String) -> String {
        """
        {reporter="\(reporter)",source_workload="client",source_canonical_service="client",\
        source_canonical_revision="v1",source_workload_namespace="shop",source_principal="unknown",\
        source_app="client",source_version="v1",source_cluster="Kubernetes",\
        destination_service="server.shop",destination_service_namespace="shop",\
        destination_service_name="server",destination_workload="unknown",\
        destination_canonical_service="unknown",destination_canonical_revision="unknown",\
        destination_workload_namespace="unknown",\
        destination_principal="spiffe://cluster.local/ns/shop/sa/server",destination_app="unknown",\
        destination_version="unknown",destination_cluster="unknown",request_protocol="tcp",\
        response_flags="\(flag)",connection_security_policy="mutual_tls",source_region="eu",\
        source_zone="eu-1",destination_region="unknown",destination_zone="unknown"}
        """
    }

    private func value(_ name: String, reporter: String = "source", flag: String = "-") -> String? {
        let start = name + labels(reporter: reporter, flag: flag) + " "
        return registry.encode().split(separator: "\n").first { $0.hasPrefix(start) }
            .map { String($0.dropFirst(start.count)) }
    }

    @Test func `a connection is opened, counted while it lives, and closed once`() throws {
        let metrics = ConnectionMetrics(registry)
        var meter = metrics.open(try record())
        #expect(value("istio_tcp_connections_opened_total") == "1")
        #expect(registry.encode().contains("istio_tcp_sockets_open{reporter=\"source\"} 1\n"))
        meter.count(fromClient: 10, toClient: 1_000)
        meter.count(fromClient: 25, toClient: 1_000)
        #expect(value("istio_tcp_received_bytes_total") == "25")
        #expect(value("istio_tcp_sent_bytes_total") == "1000")
        meter.close(.resetByServer)
        #expect(value("istio_tcp_connections_closed_total") == "1")
        #expect(!registry.encode().contains("istio_tcp_connections_failed_total"))
        #expect(registry.encode().contains("istio_tcp_sockets_open{reporter=\"source\"} 0\n"))
    }

    @Test
    func
        `paths are told apart by a metric of their own, and both identities proven is what Istio calls mutual_tls`()
        throws
    {
        let metrics = ConnectionMetrics(registry)
        var near = try record(.inbound)
        near.path = .sameNode
        metrics.countCarried(near)
        metrics.countCarried(near)
        #expect(
            registry.encode().contains(
                "warren_connections_total{reporter=\"destination\",path=\"same-node\"} 2\n"))
        #expect(
            registry.encode().contains("warren_connections_total{reporter=\"source\",path=\"same-node\"} 0\n")
        )
        metrics.open(near).close(.completed)
        #expect(value("istio_tcp_connections_opened_total", reporter: "destination") == "1")
        near.path = .plain
        metrics.open(near).close(.completed)
        #expect(registry.encode().contains("connection_security_policy=\"unknown\""))
    }

    @Test func `a refusal is closed and failed under its flag`() throws {
        let metrics = ConnectionMetrics(registry)
        metrics.open(try record(.inbound)).close(.unmatchedByAllow)
        #expect(value("istio_tcp_connections_opened_total", reporter: "destination") == "1")
        #expect(value("istio_tcp_connections_closed_total", reporter: "destination", flag: "DENY") == "1")
        #expect(value("istio_tcp_connections_failed_total", reporter: "destination", flag: "DENY") == "1")
    }

    @Test func `loops share the sums`() throws {
        let (one, other) = (ConnectionMetrics(registry), ConnectionMetrics(registry))
        one.open(try record()).close(.completed)
        other.open(try record()).close(.completed)
        #expect(value("istio_tcp_connections_closed_total") == "2")
    }

    @Test func `idle series go once nobody holds them`() throws {
        let metrics = ConnectionMetrics(registry, idle: .seconds(60))
        metrics.open(try record()).close(.completed)
        let start = MonotonicTime.now()
        _ = registry.encode(now: start)
        #expect(registry.encode(now: start + .seconds(120)).contains("istio_tcp_connections_opened_total{"))
        metrics.forgetSeries()
        #expect(!registry.encode(now: start + .seconds(240)).contains("istio_tcp_connections_opened_total{"))
    }

    @Test func `the process tells its build and descriptors`() {
        ProcessMetrics.declare(in: registry, component: "ztunnel", version: "0.1", descriptorLimit: 20_000)
        let text = registry.encode()
        #expect(text.contains("istio_build{component=\"ztunnel\",tag=\"0.1\"} 1\n"))
        #expect(text.contains("process_max_fds 20000\n"))
        #expect(text.contains("\nprocess_open_fds "))
    }
}
