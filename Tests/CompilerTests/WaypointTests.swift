import Address
import Compiler
import Manifests
import Mesh
import Testing

struct WaypointTests {
    static func gateway(
        _ name: String = "wp", in namespace: String = "shop", labels: String = "", from: String = "Same",
        addresses: String = "[{value: 10.9.0.1}]", className: String = "istio-waypoint",
        annotations: String = ""
    ) -> String {
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: \(name), namespace: \(namespace), labels: {\(labels)}, annotations: {\(annotations)}}
        spec:
          gatewayClassName: \(className)
          listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: \(from)}}}]
        status: {addresses: \(addresses)}
        """
    }

    static func service(_ labels: String, _ annotations: String = "") -> String {
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {\(labels)}, annotations: {\(annotations)}}\nspec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}"
    }

    static func at(_ text: String) -> GatewayAddress {
        GatewayAddress(
            destination: .address(NetworkAddress(network: "", address: IPAddress(text) ?? .anyIPv4)))
    }

    struct Row: CustomStringConvertible {
        var title: String
        var namespaceLabels = ""
        var gateway = WaypointTests.gateway()
        var service = ""
        var pod = "app: web"
        var serviceWaypoint: GatewayAddress?
        var podWaypoint: GatewayAddress?
        var warning: String?
        var description: String { title }
    }

    static let use = "istio.io/use-waypoint: wp"

    static let rows: [Row] = [
        Row(title: "a service that asks", service: use, serviceWaypoint: at("10.9.0.1")),
        Row(title: "nobody asks"),
        Row(title: "the namespace asks", namespaceLabels: use, serviceWaypoint: at("10.9.0.1")),
        Row(title: "an object opts out", namespaceLabels: use, service: "istio.io/use-waypoint: none"),
        Row(
            title: "for workloads", namespaceLabels: use,
            gateway: gateway(labels: "istio.io/waypoint-for: workload"),
            podWaypoint: at("10.9.0.1")),
        Row(
            title: "for all", namespaceLabels: use, gateway: gateway(labels: "istio.io/waypoint-for: all"),
            serviceWaypoint: at("10.9.0.1"), podWaypoint: at("10.9.0.1")),
        Row(title: "for none", namespaceLabels: use, gateway: gateway(labels: "istio.io/waypoint-for: none")),
        Row(
            title: "a pod asks a waypoint for services", pod: "\(use)",
            warning: "the waypoint shop/wp takes traffic to services only"),
        Row(
            title: "it does not exist", gateway: gateway("other"), service: use,
            warning: "the waypoint shop/wp does not exist"),
        Row(
            title: "another class", gateway: gateway(className: "istio"), service: use,
            warning: "does not exist"),
        Row(
            title: "without address", gateway: gateway(addresses: "[]"), service: use,
            warning: "has no address yet"),
        Row(
            title: "a name is preferred",
            gateway: gateway(
                addresses: "[{value: 10.9.0.1}, {type: Hostname, value: wp.shop.svc.cluster.local}]"),
            service: use,
            serviceWaypoint: GatewayAddress(
                destination: .hostname(NamespacedName(namespace: "shop", name: "wp.shop.svc.cluster.local")))),
        Row(
            title: "another namespace that does not allow it", gateway: gateway(in: "infra"),
            service: "\(use), istio.io/use-waypoint-namespace: infra",
            warning: "the waypoint infra/wp does not let namespace shop attach"),
        Row(
            title: "another namespace that allows all", gateway: gateway(in: "infra", from: "All"),
            service: "\(use), istio.io/use-waypoint-namespace: infra", serviceWaypoint: at("10.9.0.1")),
        Row(
            title: "another namespace that selects it", namespaceLabels: "team: a",
            gateway: gateway(in: "infra", from: "Selector, selector: {matchLabels: {team: a}}"),
            service: "\(use), istio.io/use-waypoint-namespace: infra", serviceWaypoint: at("10.9.0.1")),
        Row(
            title: "another namespace that selects others", namespaceLabels: "team: b",
            gateway: gateway(in: "infra", from: "Selector, selector: {matchLabels: {team: a}}"),
            service: "\(use), istio.io/use-waypoint-namespace: infra",
            warning: "does not let namespace shop attach"),
        Row(
            title: "a waypoint's own service", namespaceLabels: use,
            service: "gateway.networking.k8s.io/gateway-name: wp"),
    ]

    @Test(arguments: rows)
    func `binds`(row: Row) {
        let resources = compileYAML(
            documents(
                namespace("shop", row.namespaceLabels), row.gateway, Self.service(row.service),
                pod("web", labels: row.pod)))
        let service = resources.services[name("shop/web.shop.svc.cluster.local")]
        #expect(service?.waypoint == row.serviceWaypoint)
        #expect(resources.workloads["Kubernetes//Pod/shop/web"]?.waypoint == row.podWaypoint)
        let warnings = resources.warnings.map(\.message).filter { $0.contains("waypoint") }
        if let warning = row.warning {
            #expect(warnings.contains { $0.contains(warning) }, "\(warnings)")
            #expect(warnings.allSatisfy { $0.contains("no layer-7 policy is enforced") })
        } else {
            #expect(warnings.isEmpty, "\(warnings)")
        }
    }

    @Test func `a canary takes its share`() {
        func waypoints(_ weight: String) -> [Service.WeightedWaypoint]? {
            compileYAML(
                documents(
                    Self.gateway(), Self.gateway("new", addresses: "[{value: 10.9.0.2}]"),
                    Self.service(
                        "\(Self.use), istio.io/use-waypoint-canary: new",
                        "istio.io/use-waypoint-canary-weight: \"\(weight)\""))
            ).services[name("shop/web.shop.svc.cluster.local")]?.weightedWaypoints
        }
        #expect(
            waypoints("20") == [
                .init(destination: Self.at("10.9.0.1"), weight: 80),
                .init(destination: Self.at("10.9.0.2"), weight: 20),
            ])
        #expect(waypoints("101") == [])
        #expect(waypoints("many") == [])
    }

    @Test func `the pods of a waypoint say how they take their traffic`() {
        func tunnel(_ annotation: String) -> Workload.ApplicationTunnel? {
            compileYAML(
                documents(
                    Self.gateway(annotations: "ambient.istio.io/waypoint-inbound-binding: \(annotation)"),
                    pod("web", labels: "gateway.networking.k8s.io/gateway-name: wp"))
            ).workloads["Kubernetes//Pod/shop/web"]?.applicationTunnel
        }
        #expect(tunnel("PROXY") == .init(kind: .proxy, port: 0))
        #expect(tunnel("PROXY/15088") == .init(kind: .proxy, port: 15_088))
        #expect(tunnel("PROXY/x") == nil)
        #expect(tunnel("OTHER") == nil)
    }

    // MARK: Where a waypoint runs

    static func replica(_ name: String = "wp-1", account: String = "wp", _ more: String = "") -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: \(name), namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: wp}, annotations: {warren.dev/netns: ns-\(name)}}
        spec: {nodeName: n1, serviceAccountName: \(account)}
        status: {podIP: 10.0.9.\(name.utf8.last.map { $0 - 48 } ?? 0)}
        """
    }

    static let ambient = "istio.io/dataplane-mode: ambient, \(use)"
    static let hostname = name("shop/wp.shop.svc.cluster.local")

    @Test func `a waypoint without an address is found by its pods`() {
        let resources = compileYAML(
            documents(
                namespace("shop", Self.ambient), Self.gateway(addresses: "[]"), Self.replica("wp-1"),
                Self.replica("wp-2"), Self.service("")))
        #expect(
            resources.services[name("shop/web.shop.svc.cluster.local")]?.waypoint
                == GatewayAddress(destination: .hostname(Self.hostname)))
        let implied = resources.services[Self.hostname]
        #expect(implied?.ports.map(\.servicePort) == [15_008])
        #expect(implied?.waypoint == nil)
        for pod in ["wp-1", "wp-2"] {
            let workload = resources.workloads["Kubernetes//Pod/shop/\(pod)"]
            #expect(workload?.services[Self.hostname] == [15_008: 15_008])
            #expect(workload?.tunnelProtocol == .hbone && workload?.nativeTunnel == true)
            #expect(workload?.waypoint == nil)
        }
        #expect(resources.warnings.isEmpty, "\(resources.warnings)")
    }

    @Test func `its Service goes before its pods, and is never sent through it`() {
        let front =
            "apiVersion: v1\nkind: Service\nmetadata: {name: wp, namespace: shop}\nspec: {clusterIP: 10.1.0.9, selector: {gateway.networking.k8s.io/gateway-name: wp}, ports: [{port: 15008}]}"
        let resources = compileYAML(
            documents(
                namespace("shop", Self.ambient), Self.gateway(addresses: "[]"), Self.replica(), front,
                Self.service("")))
        #expect(
            resources.services[name("shop/web.shop.svc.cluster.local")]?.waypoint
                == GatewayAddress(destination: .hostname(Self.hostname)))
        #expect(resources.services[Self.hostname]?.addresses.count == 1)
        #expect(resources.services[Self.hostname]?.waypoint == nil)
        #expect(resources.workloads["Kubernetes//Pod/shop/wp-1"]?.services[Self.hostname] == [15_008: 15_008])
        let closed = compileYAML(
            documents(
                namespace("shop"), Self.gateway(addresses: "[]"), Self.replica(),
                front.replacing("15008", with: "80")))
        #expect(closed.warnings.contains { $0.message.contains("has no port 15008") })
    }

    @Test func `nobody captures a waypoint, and its node cannot be certified as it`() {
        let resources = compileYAML(
            documents(
                namespace("shop", Self.ambient), Self.gateway(), Self.replica(),
                pod("web", labels: "app: web")))
        #expect(resources.localPods.values.joined().allSatisfy { $0.name != "wp-1" })
        let identity = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "wp")
        #expect(resources.identities.values.allSatisfy { !$0.contains(identity) })
        let declaration = resources.waypoints[name("shop/wp")]
        #expect(declaration?.identities == [identity])
        #expect(
            declaration?.replicas == [.init(name: "wp-1", node: "n1", networkNamespace: "ns-wp-1")])
    }

    @Test func `an account that a captured pod has is no waypoint's`() {
        let other =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: n1, serviceAccountName: wp}\nstatus: {podIP: 10.0.0.7}"
        let resources = compileYAML(
            documents(namespace("shop", Self.ambient), Self.gateway(), Self.replica(), other))
        #expect(resources.waypoints[name("shop/wp")]?.identities == [])
        #expect(
            resources.warnings.contains { $0.message.contains("the waypoint gets no certificate") },
            "\(resources.warnings)")
    }

    @Test func `a pod of another gateway is no waypoint`() {
        let resources = compileYAML(
            documents(
                namespace("shop", "istio.io/dataplane-mode: ambient"), Self.gateway(className: "istio"),
                Self.replica()))
        #expect(resources.waypoints.isEmpty)
        #expect(resources.workloads["Kubernetes//Pod/shop/wp-1"]?.nativeTunnel == false)
        #expect(resources.localPods["n1"]?.count == 1)
    }
}
