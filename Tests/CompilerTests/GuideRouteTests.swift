import Compiler
import Documents
import Linux
import Manifests
import Mesh
import Routing
import Testing

/// The guide's traffic management, as Deploy/examples/guide has it.
struct GuideRouteTests {
    static let folder =
        #filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/\($1)" }
        + "/Deploy/examples/guide/"
    static let files = [
        "00-mesh.yaml", "app-bluegreen.yaml", "app-versions.yaml", "bookinfo.yaml", "catalog-ab-test.yaml",
        "catalog-dr.yaml", "frontend-vs.yaml", "httpbin-circuit-breaker.yaml", "httpbin-mirror.yaml",
        "ratings-retry.yaml", "reviews-canary.yaml", "reviews-destination.yaml",
    ]

    /// What Warren says of a file when it is read.
    static let said = [
        "httpbin-circuit-breaker.yaml": [
            "httpbin-circuit-breaker.yaml:16:23: warning: spec.trafficPolicy.connectionPool.tcp.tcpKeepalive: has no effect: connections through the mesh have the mesh's own keepalive"
        ]
    ]

    static func compiled() throws -> MeshResources {
        let read = try files.map { name in
            let file = ManifestFile(bytes: try readFile(folder + name, limit: 1 << 20), file: name)
            #expect(file.problems.map(\.description) == said[name] ?? [], "\(name)")
            return file
        }
        var store = ObjectStore()
        #expect(store.merge(read) == [])
        return compile(store)
    }

    @Test("nothing of it comes to nothing unsaid")
    func noWarnings() throws {
        #expect(try Self.compiled().warnings == [])
    }

    struct Row: CustomStringConvertible {
        var title: String
        var service: String
        var namespace = "default"
        var port: UInt16
        var headers: [(String, String)] = []
        /// Shares by destination, of the sum of the weights.
        var destinations: [String]
        var description: String { title }
    }

    static let rows: [Row] = [
        Row(
            title: "canary: one user sees v2", service: "reviews", port: 9_080,
            headers: [("end-user", "jason")],
            destinations: ["reviews.default.svc.cluster.local:9080 subset v2 0"]),
        Row(
            title: "canary: the others see it in a tenth", service: "reviews", port: 9_080,
            destinations: [
                "reviews.default.svc.cluster.local:9080 subset v1 90",
                "reviews.default.svc.cluster.local:9080 subset v2 10",
            ]),
        Row(
            title: "blue-green", service: "app-service", port: 80,
            destinations: ["app-service.default.svc.cluster.local:80 subset green 100"]),
        Row(
            title: "retries", service: "ratings", port: 9_080,
            destinations: ["ratings.default.svc.cluster.local:9080 0"]),
        Row(
            title: "mirrored", service: "httpbin", port: 8_000,
            destinations: ["httpbin.default.svc.cluster.local:8000 subset v1 100"]),
        Row(
            title: "what is bound to the ingress gateway is not for the mesh", service: "productpage",
            port: 9_080, destinations: ["productpage.default.svc.cluster.local:9080 1"]),
        Row(
            title: "A/B: premium", service: "catalog", namespace: "ecommerce", port: 80,
            headers: [("user-type", "premium")],
            destinations: ["catalog.ecommerce.svc.cluster.local:80 subset v2 0"]),
        Row(
            title: "A/B: the others", service: "catalog", namespace: "ecommerce", port: 80,
            destinations: [
                "catalog.ecommerce.svc.cluster.local:80 subset v1 80",
                "catalog.ecommerce.svc.cluster.local:80 subset v2 20",
            ]),
    ]

    @Test(arguments: rows)
    func routes(row: Row) throws {
        let mesh = try Self.compiled()
        let service = try #require(mesh.waypointService("\(row.namespace)/waypoint", row.service))
        let forwarding = try #require(try service.forwarding(port: row.port, headers: row.headers))
        #expect(forwarding.destinations.map { $0.text } == row.destinations)
    }

    @Test("retries and timeouts of the guide")
    func retries() throws {
        let mesh = try Self.compiled()
        let service = try #require(mesh.waypointService("default/waypoint", "ratings"))
        let forwarding = try #require(try service.forwarding(port: 9_080))
        #expect(forwarding.timeout == .seconds(10))
        #expect(forwarding.retries?.attempts == 3)
        #expect(forwarding.retries?.perTryTimeout == .seconds(2))
        #expect(forwarding.retries?.conditions == [.gatewayErrors, .connectFailure, .refusedStream])
    }

    @Test("the mirror and the circuit breaker of the guide")
    func mirrorAndBreaker() throws {
        let mesh = try Self.compiled()
        let service = try #require(mesh.waypointService("default/waypoint", "httpbin"))
        let forwarding = try #require(try service.forwarding(port: 8_000))
        #expect(
            forwarding.mirrors == [
                Mirror(Destination("httpbin.default.svc.cluster.local", port: 8_000, subset: "v2"))
            ])
        let policy = try #require(service.destinations["httpbin.default.svc.cluster.local"])
        #expect(policy.sources == ["DestinationRule default/httpbin-circuit-breaker"])
        #expect(policy.subsets["v2"]?.endpoints == ["Kubernetes//Pod/default/httpbin-v2"])
        // The subset has the bounds of the service.
        let traffic = try #require(policy.traffic(port: 8_000, subset: "v2"))
        #expect(traffic.connectionPool.maxConnections == 10)
        #expect(traffic.connectionPool.connectTimeout == .seconds(30))
        #expect(traffic.connectionPool.keepalive == .init(time: .seconds(7_200), interval: .seconds(75)))
        #expect(traffic.connectionPool.maxPendingRequests == 10)
        #expect(traffic.connectionPool.maxRequests == 100)
        #expect(traffic.connectionPool.maxRequestsPerConnection == 10)
        #expect(traffic.connectionPool.maxRetries == 3)
        let detection = try #require(traffic.outlierDetection)
        #expect(detection.consecutive5xxErrors == 5 && detection.consecutiveGatewayErrors == 5)
        #expect(detection.interval == .seconds(30) && detection.baseEjectionTime == .seconds(30))
        #expect(detection.maxEjectionPercent == 50 && detection.minHealthPercent == 30)
    }
}
