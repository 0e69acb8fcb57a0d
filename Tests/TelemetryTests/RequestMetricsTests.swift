import Address
import Linux
import Mesh
import Metrics
import Testing

@testable import Telemetry

struct RequestMetricsTests {
    private let registry = Registry()
    private let snapshot: Snapshot

    init() {
        var builder = SnapshotBuilder(node: "")
        builder.insert(
            Workload(
                uid: "c", name: "client-1", namespace: "shop", canonicalName: "client",
                canonicalRevision: "v1", workloadName: "client"))
        builder.insert(
            Workload(
                uid: "s", name: "server-1", namespace: "back", canonicalName: "server",
                canonicalRevision: "v2", workloadName: "server-v2"))
        builder.insert(Service(name: "server", namespace: "back", hostname: "server.back"))
        snapshot = builder.snapshot()
    }

    private func record(_ change: (inout RequestRecord) -> Void = { _ in }) -> RequestRecord {
        var record = RequestRecord(
            start: WallClock(seconds: 0),
            client: .init(
                address: nil, workload: snapshot.workload(uid: "c"),
                identity: Identity(spiffe: "spiffe://cluster.local/ns/shop/sa/client")),
            destination: .init(
                address: nil, workload: snapshot.workload(uid: "s"),
                identity: Identity(spiffe: "spiffe://cluster.local/ns/back/sa/server")),
            service: snapshot.service(NamespacedName(namespace: "back", name: "server.back")),
            method: "GET", path: "/secret-path", authority: "secret-host", userAgent: "secret-agent",
            requestID: "secret-id", status: 200, bytesReceived: 7, bytesSent: 1_000,
            duration: .microseconds(700))
        change(&record)
        return record
    }

    private let ends = """
        reporter="waypoint",source_workload="client",source_canonical_service="client",\
        source_canonical_revision="v1",source_workload_namespace="shop",\
        source_principal="spiffe://cluster.local/ns/shop/sa/client",source_app="client",source_version="v1",\
        source_cluster="Kubernetes",destination_service="server.back",\
        destination_service_namespace="back",destination_service_name="server",\
        destination_workload="server-v2",destination_canonical_service="server",\
        destination_canonical_revision="v2",destination_workload_namespace="back",\
        destination_principal="spiffe://cluster.local/ns/back/sa/server",destination_app="server",\
        destination_version="v2",destination_cluster="Kubernetes"
        """

    private func labels(
        _ name: String = "http", code: String = "200", grpc: String = "", flags: String = "-",
        policy: String = "mutual_tls"
    ) -> String {
        """
        \(ends),request_protocol="\(name)",response_code="\(code)",grpc_response_status="\(grpc)",\
        response_flags="\(flags)",connection_security_policy="\(policy)"
        """
    }

    private func value(_ name: String, _ labels: String) -> String? {
        let start = "\(name){\(labels)} "
        return registry.encode().split(separator: "\n").first { $0.hasPrefix(start) }
            .map { String($0.dropFirst(start.count)) }
    }

    @Test func `a request counts once in each metric, under Istio's labels`() {
        RequestMetrics(registry).count(record())
        #expect(value("istio_requests_total", labels()) == "1")
        #expect(value("istio_request_duration_milliseconds_bucket", labels() + ",le=\"0.5\"") == "0")
        #expect(value("istio_request_duration_milliseconds_bucket", labels() + ",le=\"1.0\"") == "1")
        #expect(value("istio_request_duration_milliseconds_sum", labels()) == "0.7")
        #expect(value("istio_request_bytes_bucket", labels() + ",le=\"5.0\"") == "0")
        #expect(value("istio_request_bytes_bucket", labels() + ",le=\"10.0\"") == "1")
        #expect(value("istio_request_bytes_sum", labels()) == "7.0")
        #expect(value("istio_response_bytes_sum", labels()) == "1000.0")
        #expect(!registry.encode().contains("messages"))
    }

    @Test func `the buckets are Envoy's`() {
        RequestMetrics(registry).count(record())
        let bounds = registry.encode().split(separator: "\n").filter {
            $0.hasPrefix("istio_request_duration_milliseconds_bucket")
        }.compactMap { $0.split(separator: "le=\"").last?.split(separator: "\"").first }
        let expected = [
            "0.5", "1.0", "5.0", "10.0", "25.0", "50.0", "100.0", "250.0", "500.0", "1000.0", "2500.0",
            "5000.0", "10000.0", "30000.0", "60000.0", "300000.0", "600000.0", "1800000.0", "3600000.0",
            "+Inf",
        ]
        #expect(bounds.map(String.init) == expected)
    }

    @Test func `statuses, flags and proven identities tell series apart`() {
        let metrics = RequestMetrics(registry)
        metrics.count(record())
        metrics.count(record())
        metrics.count(
            record {
                $0.status = 503
                $0.flags = "URX,UF"
            })
        metrics.count(record { $0.status = 0 })
        metrics.count(
            record {
                $0.isGRPC = true
                $0.grpcStatus = 14
            })
        metrics.count(record { $0.isGRPC = true })
        #expect(value("istio_requests_total", labels()) == "2")
        #expect(value("istio_requests_total", labels(code: "503", flags: "URX,UF")) == "1")
        #expect(value("istio_requests_total", labels(code: "0")) == "1")
        #expect(value("istio_requests_total", labels("grpc", grpc: "14")) == "1")
        #expect(value("istio_requests_total", labels("grpc")) == "1")
        metrics.count(record { $0.client.identity = nil })
        let unproven = labels(policy: "unknown").replacing(
            "source_principal=\"spiffe://cluster.local/ns/shop/sa/client\"",
            with: "source_principal=\"unknown\"")
        #expect(value("istio_requests_total", unproven) == "1")
    }

    @Test func `a request that no endpoint got names its service`() {
        RequestMetrics(registry).count(record { $0.destination = .init(address: nil) })
        let line = registry.encode().split(separator: "\n").first { $0.hasPrefix("istio_requests_total") }
        #expect(line?.contains("destination_service=\"server.back\"") == true)
        #expect(line?.contains("destination_workload=\"unknown\"") == true)
    }

    @Test func `gRPC's messages count under the two ends alone, as Istio's do`() {
        let metrics = RequestMetrics(registry)
        for status in [0, 2] {
            metrics.count(
                record {
                    $0.isGRPC = true
                    $0.grpcStatus = status
                    $0.requestMessages = 3
                    $0.responseMessages = UInt64.max
                })
        }
        // Not of gRPC, so not messages.
        metrics.count(record { $0.requestMessages = 5 })
        #expect(value("istio_request_messages_total", ends) == "6")
        #expect(value("istio_response_messages_total", ends) == "\(UInt64(Int.max) * 2)")
    }

    @Test func `what a client or an endpoint chooses freely becomes no label`() {
        let metrics = RequestMetrics(registry)
        for status in [-5, 1, 99, 600, 999, Int.max] {
            metrics.count(
                record {
                    $0.status = status
                    $0.isGRPC = true
                    $0.grpcStatus = status == 1 ? 17 : status &- 1
                    $0.path = "/secret-\(status)"
                })
        }
        let text = registry.encode()
        #expect(!text.contains("secret"))
        let codes = Set(
            text.split(separator: "\n").filter { $0.hasPrefix("istio_requests_total") }.compactMap {
                $0.split(separator: "response_code=\"").last?.split(separator: "\"").first
            })
        #expect(codes == ["other"])
        #expect(value("istio_requests_total", labels("grpc", code: "other", grpc: "other")) == "6")
    }

    @Test func `series have a limit, above which they share one`() {
        let metrics = RequestMetrics(registry, seriesLimit: 10, histogramLimit: 5)
        for status in 200..<300 { metrics.count(record { $0.status = status }) }
        let lines = registry.encode().split(separator: "\n")
        let totals = lines.filter { $0.hasPrefix("istio_requests_total") }
        #expect(totals.count == 11)
        #expect(totals.contains { $0.contains("reporter=\"other\"") && $0.hasSuffix("} 90") })
        #expect(lines.count { $0.hasPrefix("istio_request_duration_milliseconds_count") } == 6)
        #expect(
            lines.contains {
                $0.hasPrefix("istio_response_bytes_count{reporter=\"other\"") && $0.hasSuffix("} 95")
            })
    }

    @Test func `more kinds of requests than a loop remembers count all the same`() {
        let metrics = RequestMetrics(registry)
        for grpcStatus in 0..<5_000 {
            metrics.count(
                record {
                    $0.isGRPC = true
                    $0.grpcStatus = grpcStatus + 17
                })
        }
        metrics.count(
            record {
                $0.isGRPC = true
                $0.grpcStatus = 17
            })
        #expect(value("istio_requests_total", labels("grpc", grpc: "other")) == "5001")
    }

    @Test func `loops share the sums`() {
        for metrics in [RequestMetrics(registry), RequestMetrics(registry)] { metrics.count(record()) }
        #expect(value("istio_requests_total", labels()) == "2")
    }

    @Test func `idle series go once nobody holds them`() {
        let metrics = RequestMetrics(registry, idle: .seconds(60))
        metrics.count(
            record {
                $0.isGRPC = true
                $0.requestMessages = 1
            })
        let names = [
            "istio_requests_total{", "istio_request_bytes_sum{", "istio_response_bytes_sum{",
            "istio_request_duration_milliseconds_sum{", "istio_request_messages_total{",
        ]
        let start = MonotonicTime.now()
        _ = registry.encode(now: start)
        let held = registry.encode(now: start + .seconds(120))
        #expect(names.allSatisfy { held.contains($0) })
        metrics.forgetSeries()
        let after = registry.encode(now: start + .seconds(240))
        #expect(!names.contains { after.contains($0) })
        // A pair that comes back begins anew.
        metrics.count(record())
        #expect(value("istio_requests_total", labels()) == "1")
    }
}
