import Compiler
import Mesh
import Routing
import Testing

@Suite("DestinationRules at a waypoint")
struct DestinationPolicyTests {
    private func policy(_ result: MeshResources) throws -> DestinationPolicy {
        try #require(try result.a().destinations["a.shop.svc.cluster.local"])
    }

    private func pool(_ count: Int) -> String { "connectionPool: {tcp: {maxConnections: \(count)}}" }

    @Test("without a rule there are Istio's defaults (E.3)")
    func defaults() throws {
        let traffic = try policy(mesh()).traffic
        #expect(traffic == TrafficPolicy())
        #expect(traffic.loadBalancing.method == .leastRequest)
        #expect(traffic.connectionPool.connectTimeout == .seconds(10))
        #expect(traffic.connectionPool.maxConnections == nil)
        #expect(traffic.outlierDetection == nil)
    }

    @Test(
        "a port of the subset over the subset over a port over the rest, section by section; a port inherits nothing (E.3)"
    )
    func precedence() throws {
        let found = try policy(
            mesh(
                destinationRule(
                    """
                    host: a, trafficPolicy: {\(pool(1)), loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 80}, \(pool(2))}]},
                    subsets: [{name: s, labels: {version: v1}, trafficPolicy: {\(pool(3)), portLevelSettings: [{port: {number: 81}, \(pool(4))}]}},
                      {name: t, labels: {version: v1}, trafficPolicy: {outlierDetection: {}}}, {name: u, labels: {version: v1}}]
                    """),
                ports: "[{name: http, port: 80}, {name: http-b, port: 81}, {name: http-c, port: 82}]"))
        func seen(_ port: UInt16, _ subset: String?) throws -> String {
            let traffic = try #require(found.traffic(port: port, subset: subset))
            return
                "\(traffic.connectionPool.maxConnections ?? 0) \(traffic.loadBalancing.method) \(traffic.outlierDetection == nil ? "-" : "outliers")"
        }
        #expect(try seen(82, nil) == "1 random -")
        #expect(try seen(80, nil) == "2 leastRequest -")
        #expect(try seen(82, "s") == "3 random -")
        #expect(try seen(80, "s") == "3 leastRequest -")
        #expect(try seen(81, "s") == "4 leastRequest -")
        #expect(try seen(82, "t") == "1 random outliers")
        #expect(try seen(80, "t") == "2 leastRequest outliers")
        #expect(try seen(80, "u") == "2 leastRequest -")
        #expect(found.traffic(port: 80, subset: "w") == nil)
    }

    @Test(
        "the waypoint's namespace comes first, then the service's, then the root's; within one the most specific host (A.3)"
    )
    func lookup() throws {
        func sources(_ rules: String...) throws -> [String] {
            let result = compileYAML(
                ([
                    namespace("shop", "istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra"),
                    namespace("infra", ""), namespace("istio-system", ""),
                    WaypointTests.gateway(in: "infra", from: "All"), WaypointTests.service(""),
                ] + rules).joined(separator: "\n---\n"))
            let service = try #require(result.waypointService("infra/wp", "web", in: "shop"))
            return service.destinations["web.shop.svc.cluster.local"]?.sources ?? []
        }
        let host = "host: web.shop.svc.cluster.local"
        let (own, near, root) = (
            destinationRule(host, in: "infra"), destinationRule(host),
            destinationRule(host, in: "istio-system")
        )
        #expect(try sources(own, near, root) == ["DestinationRule infra/d"])
        #expect(try sources(near, root) == ["DestinationRule shop/d"])
        #expect(try sources(root) == ["DestinationRule istio-system/d"])
        #expect(
            try sources(destinationRule("host: '*.cluster.local'", name: "w"), near) == [
                "DestinationRule shop/d"
            ])
        #expect(
            try sources(
                destinationRule("host: '*.cluster.local'", name: "w"),
                destinationRule("host: '*.shop.svc.cluster.local'", name: "l")) == ["DestinationRule shop/l"])
        // Not exported to the waypoint's namespace.
        #expect(
            try sources(destinationRule("\(host), exportTo: ['.']"), root) == [
                "DestinationRule istio-system/d"
            ])
    }

    @Test("several for one host are put together: subsets of all, the trafficPolicy of the oldest")
    func merging() throws {
        let result = mesh(
            destinationRule(
                "host: a, subsets: [{name: x, labels: {version: v1}}, {name: z, labels: {version: v1}}], trafficPolicy: {\(pool(2))}",
                name: "new", created: "2026-01-02T00:00:00Z"),
            destinationRule(
                "host: a, subsets: [{name: x, labels: {app: a}}], trafficPolicy: {\(pool(1))}", name: "old",
                created: "2026-01-01T00:00:00Z"))
        let found = try policy(result)
        #expect(found.sources == ["DestinationRule shop/old", "DestinationRule shop/new"])
        #expect(found.traffic.connectionPool.maxConnections == 1)
        #expect(found.subsets.keys.sorted() == ["x", "z"])
        #expect(found.subsets["x"]?.labels == ["app": "a"])
        #expect(
            Set(result.warnings.map(\.message)) == [
                "DestinationRule shop/new: its trafficPolicy has no effect: that of DestinationRule shop/old is older and for the same host; its subsets are added to those",
                "DestinationRule shop/new: its subset \"x\" has no effect: an older DestinationRule for the same host has one of that name",
            ])
    }

    @Test("a subset's endpoints are those with all of its labels (A.3)")
    func subsets() throws {
        let result = mesh(
            destinationRule(
                "host: a, subsets: [{name: x, labels: {version: v1}}, {name: none, labels: {version: v7}}]"),
            pod("a-v2", "10.0.0.9", labels: "app: a, version: v2"))
        let found = try policy(result)
        #expect(found.subsets["x"]?.endpoints == ["Kubernetes//Pod/shop/a-v1"])
        #expect(found.subsets["none"]?.endpoints == [])
        #expect(
            result.warnings("has the labels").first
                == "DestinationRule shop/d: no endpoint of a.shop.svc.cluster.local has the labels of its subset \"none\" (version=v7): requests for it are answered 503"
        )
    }

    @Test("endpoints that a ServiceEntry writes are chosen by their labels, too")
    func entryEndpoints() throws {
        let result = compileYAML(
            documents(
                namespace("shop", "istio.io/use-waypoint: wp"), WaypointTests.gateway(),
                """
                apiVersion: networking.istio.io/v1
                kind: ServiceEntry
                metadata: {name: out, namespace: shop}
                spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 192.0.2.1, labels: {v: '1'}}, {address: 192.0.2.2, labels: {v: '2'}}]}
                """, destinationRule("host: api.example, subsets: [{name: two, labels: {v: '2'}}]")))
        let service = try #require(result.waypointService("shop/wp", "api.example"))
        #expect(
            service.destinations["api.example"]?.subsets["two"]?.endpoints
                == ["Kubernetes/networking.istio.io/ServiceEntry/shop/out/192.0.2.2"])
    }

    struct Row: CustomStringConvertible {
        var spec: String
        var check: @Sendable (TrafficPolicy) -> Bool
        var description: String { spec }
    }

    static let rows: [Row] = [
        Row(spec: "loadBalancer: {simple: LEAST_CONN}") { $0.loadBalancing.method == .leastRequest },
        Row(spec: "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s}}") {
            $0.loadBalancing == LoadBalancing(.roundRobin, warmup: .init(duration: .seconds(10)))
        },
        Row(spec: "loadBalancer: {simple: PASSTHROUGH}") { $0.loadBalancing.method == .passthrough },
        Row(spec: "loadBalancer: {consistentHash: {httpHeaderName: X-User}}") {
            $0.loadBalancing.method == .hash(.header("x-user"), .ring(minimumSize: 1_024))
        },
        Row(
            spec: "loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 101}}}"
        ) {
            $0.loadBalancing.method
                == .hash(.cookie(name: "c", path: nil, lifetime: .zero), .maglev(tableSize: 101))
        },
        Row(spec: "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 7}}") {
            $0.loadBalancing.method == .hash(.sourceIP, .ring(minimumSize: 7))
        },
        Row(spec: "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}") {
            $0.loadBalancing.locality == .init(failover: [.init(from: "a", to: "b")])
        },
        Row(spec: "loadBalancer: {localityLbSetting: {enabled: false, failover: [{from: a, to: b}]}}") {
            $0.loadBalancing.locality == nil
        },
        Row(spec: "outlierDetection: {}") { $0.outlierDetection == OutlierDetection() },
        Row(
            spec:
                "outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 0, maxEjectionPercent: 0}"
        ) {
            $0.outlierDetection?.consecutive5xxErrors == nil
                && $0.outlierDetection?.consecutiveGatewayErrors == nil
                && $0.outlierDetection?.maxEjectionPercent == 10
        },
        Row(spec: "outlierDetection: {baseEjectionTime: 600s}") {
            $0.outlierDetection?.maxEjectionTime == .seconds(600)
        },
        Row(spec: "connectionPool: {http: {maxRetries: 0, idleTimeout: 0s, h2UpgradePolicy: UPGRADE}}") {
            $0.connectionPool.maxRetries == nil && $0.connectionPool.httpIdleTimeout == .zero
                && $0.connectionPool.h2Upgrade == .always
        },
        Row(spec: "tls: {mode: SIMPLE, sni: s.example, caCertificates: /ca.pem, subjectAltNames: [x]}") {
            $0.tls
                == TLSOrigination(caCertificates: "/ca.pem", subjectAltNames: ["x"], serverName: "s.example")
        },
        Row(spec: "tls: {mode: DISABLE}") { $0.tls == nil },
        Row(spec: "retryBudget: {percent: 10}") {
            $0.retryBudget == RetryBudget(percent: 10, minimumConcurrency: 3)
        },
    ]

    @Test("every setting, with what it means where a part is left out (E.3)", arguments: rows)
    func settings(row: Row) throws {
        let traffic = try policy(mesh(destinationRule("host: a, trafficPolicy: {\(row.spec)}"))).traffic
        #expect(row.check(traffic), "\(traffic)")
    }

    @Test(
        "warren.dev/load-balancer: peak-ewma on the Service; a DestinationRule that names a method comes before it"
    )
    func peakEWMA() throws {
        let wish = "warren.dev/load-balancer: peak-ewma"
        #expect(try policy(mesh(annotations: wish)).traffic.loadBalancing.method == .peakEWMA)
        #expect(
            try policy(mesh(destinationRule("host: a, trafficPolicy: {\(pool(1))}"), annotations: wish))
                .traffic.loadBalancing.method
                == .peakEWMA)
        #expect(
            try policy(
                mesh(
                    destinationRule("host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}"),
                    annotations: wish)
            )
            .traffic.loadBalancing.method == .random)
        #expect(
            mesh(annotations: wish).warnings.map(\.message).contains(
                "Service shop/a: annotation warren.dev/load-balancer is not enforced yet: endpoints are chosen by least request"
            ))
        let wrong = mesh(annotations: "warren.dev/load-balancer: fastest")
        #expect(
            wrong.warnings.first?.message
                == "Service shop/a: annotation warren.dev/load-balancer is \"fastest\"; the only value is peak-ewma, and it has no effect"
        )
    }

    @Test(
        "what has no effect says why",
        arguments: [
            (
                "host: nobody",
                "DestinationRule shop/d has no effect: nobody.shop.svc.cluster.local is no Service and no ServiceEntry"
            ),
            (
                "host: a, workloadSelector: {matchLabels: {app: a}}",
                "DestinationRule shop/d has no effect: a workloadSelector selects pods with a sidecar, and there are none here"
            ),
            (
                "host: a, exportTo: [far]",
                "DestinationRule shop/d has no effect: the waypoint of a.shop.svc.cluster.local goes by one that is more specific, or nearer: of the waypoint's own namespace, of the service's, then of istio-system"
            ),
            (
                "host: a, trafficPolicy: {portLevelSettings: [{port: {number: 9}, loadBalancer: {simple: RANDOM}}]}",
                "DestinationRule shop/d: its portLevelSettings for port 9 have no effect: a.shop.svc.cluster.local has no such port"
            ),
            (
                "host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}",
                "DestinationRule shop/d: its tls mode ISTIO_MUTUAL has no effect: a waypoint reaches pods of the mesh by mutual TLS anyway, and others by none"
            ),
            (
                "host: a, trafficPolicy: {tls: {mode: SIMPLE}}",
                "DestinationRule shop/d: its tls names no caCertificates: endpoints are verified against the roots of the operating system"
            ),
        ])
    func warnings(spec: String, message: String) {
        #expect(mesh(destinationRule(spec)).warnings.map(\.message) == [message])
    }
}
