import Address
import Compiler
import Manifests
import Mesh
import Testing

struct ServiceTests {
    static func service(_ spec: String, metadata: String = "", _ more: String...) -> Service? {
        let text =
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop\(metadata.isEmpty ? "" : ", ")\(metadata)}\nspec: {\(spec)}"
        return compileYAML(([text] + more).joined(separator: "\n---\n")).services[
            name("shop/web.shop.svc.cluster.local")]
    }

    @Test func `a service has its cluster addresses and TCP ports`() throws {
        let service = try #require(
            Self.service(
                "clusterIPs: [10.1.0.1, \"fd00:1::1\"], externalIPs: [1.2.3.4], ipFamilies: [IPv4, IPv6], ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: web}, {name: c, port: 82, protocol: UDP}]"
            ))
        #expect(service.addresses.map(\.prefix.description) == ["10.1.0.1/32", "fd00:1::1/128"])
        #expect(service.ports.map(\.servicePort) == [80, 81])
        #expect(service.ports.map(\.targetPort) == [8080, 0])
        #expect(service.ipFamilies == .dual)
        #expect(service.isCanonical)
        #expect(service.hostname == "web.shop.svc.cluster.local")
    }

    @Test func `a headless service has no addresses, a name elsewhere is not sent`() {
        #expect(Self.service("clusterIP: None, ports: [{port: 80}]")?.addresses == [])
        #expect(Self.service("type: ExternalName, externalName: example.com") == nil)
    }

    static let balancing: [(String, String, Service.LoadBalancing)] = [
        ("", "", .init()),
        ("publishNotReadyAddresses: true", "", .init(allowsUnhealthy: true)),
        (
            "internalTrafficPolicy: Local, trafficDistribution: PreferClose", "",
            .init(routingPreference: [.node], mode: .strict)
        ),
        ("internalTrafficPolicy: Cluster", "", .init()),
        (
            "trafficDistribution: PreferClose", "",
            .init(routingPreference: [.network, .region, .zone], mode: .failover)
        ),
        (
            "trafficDistribution: PreferSameZone", "",
            .init(routingPreference: [.network, .region, .zone], mode: .failover)
        ),
        (
            "trafficDistribution: PreferSameNode", "",
            .init(routingPreference: [.network, .region, .zone, .subzone, .node], mode: .failover)
        ),
        (
            "trafficDistribution: Any",
            "annotations: {networking.istio.io/traffic-distribution: PreferClose}", .init()
        ),
        (
            "", "annotations: {networking.istio.io/traffic-distribution: preferclose}",
            .init(routingPreference: [.network, .region, .zone], mode: .failover)
        ),
        ("trafficDistribution: Unheard", "", .init()),
    ]

    @Test(arguments: balancing)
    func `endpoints are chosen as the service asks`(
        row: (spec: String, metadata: String, expected: Service.LoadBalancing)
    ) {
        #expect(Self.service(row.spec, metadata: row.metadata)?.loadBalancing == row.expected, "\(row)")
    }

    @Test func `the namespace's wish counts where the service has none`() {
        let namespace =
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {networking.istio.io/traffic-distribution: PreferClose}}"
        #expect(Self.service("", metadata: "", namespace)?.loadBalancing.mode == .failover)
    }

    static let protocols: [(String, Service.AppProtocol)] = [
        ("name: http, port: 80", .http11), ("name: http-web, port: 80", .http11),
        ("name: httpx, port: 80", .unknown),
        ("name: grpc, port: 80", .grpc), ("name: grpc-web, port: 80", .http11),
        ("name: http2, port: 80", .http2),
        ("name: tcp-x, port: 80", .tcp), ("name: https, port: 443", .tls), ("name: mysql, port: 1", .tcp),
        ("port: 80", .unknown), ("port: 3306", .tcp), ("port: 25", .tcp), ("name: http, port: 3306", .http11),
        ("name: tcp, port: 80, appProtocol: kubernetes.io/h2c", .http2),
        ("port: 80, appProtocol: GRPC", .grpc),
    ]

    @Test(arguments: protocols)
    func `a port's name or appProtocol declares its protocol`(
        row: (port: String, expected: Service.AppProtocol)
    ) {
        #expect(
            Self.service("ports: [{\(row.port)}]")?.ports.first?.appProtocol == row.expected, "\(row.port)")
    }

    @Test func `an EndpointSlice gives endpoints that are no pods, and pods that no selector finds`() throws {
        let resources = compileYAML(
            documents(
                pod("db", "10.0.0.7"),
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.1.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}]}",
                """
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
                addressType: IPv4
                ports: [{name: a, port: 8080}, {name: b, port: 8081, protocol: UDP}]
                endpoints:
                - {addresses: [192.168.0.1], nodeName: n9, conditions: {ready: false}}
                - {addresses: [10.0.0.7], targetRef: {kind: Pod, name: db}}
                """))
        let key = name("shop/web.shop.svc.cluster.local")
        let uid = "Kubernetes/discovery.k8s.io/EndpointSlice/shop/web-1/192.168.0.1"
        let endpoint = try #require(resources.workloads[uid])
        #expect(endpoint.services == [key: [80: 8080]])
        #expect(
            endpoint.status == .unhealthy && endpoint.networkMode == .hostNetwork && endpoint.node == "n9")
        #expect(
            endpoint.tunnelProtocol == Workload.TunnelProtocol.none && endpoint.authorizationPolicies.isEmpty)
        #expect(resources.workloads["Kubernetes//Pod/shop/db"]?.services == [key: [80: 8080]])
        #expect(resources.workloads.count == 2)
    }

    @Test func `a slice without a service is pointed out`() {
        let resources = compileYAML(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, labels: {kubernetes.io/service-name: gone}}\naddressType: IPv4\nendpoints: [{addresses: [192.168.0.1]}]"
        )
        #expect(resources.workloads.isEmpty)
        #expect(resources.warnings.contains { $0.message.contains("Service gone, which does not exist") })
    }
}
