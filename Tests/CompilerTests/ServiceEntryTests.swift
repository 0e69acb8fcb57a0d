import Address
import Compiler
import Documents
import Manifests
import Mesh
import Testing

struct ServiceEntryTests {
    static func entry(
        _ spec: String, name: String = "e", in namespace: String = "shop", metadata: String = ""
    ) -> String {
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: \(name), namespace: \(namespace)\(metadata)}\nspec: {\(spec)}"
    }

    static let ports =
        "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, {number: 53, name: dns, protocol: UDP}]"

    @Test func `static endpoints become workloads of every host`() throws {
        let resources = compileYAML(
            Self.entry(
                "hosts: [a.example, b.example], addresses: [10.5.0.0/24], \(Self.ports), resolution: STATIC, location: MESH_INTERNAL, subjectAltNames: [\"spiffe://x/ns/y/sa/z\"], endpoints: [{address: 192.168.0.1, ports: {http: 9090}, labels: {networking.istio.io/tunnel: http, app: ext}, weight: 3, serviceAccount: sa, locality: r/z, network: n2}]"
            ))
        let service = try #require(resources.services[name("shop/a.example")])
        #expect(service.addresses.map(\.prefix.description) == ["10.5.0.0/24"])
        #expect(service.ports == [.init(servicePort: 80, targetPort: 8080, appProtocol: .http11)])
        #expect(service.subjectAltNames == ["spiffe://x/ns/y/sa/z"])
        #expect(service.isCanonical)
        let workload = try #require(
            resources.workloads["Kubernetes/networking.istio.io/ServiceEntry/shop/e/192.168.0.1"])
        #expect(
            workload.services == [name("shop/a.example"): [80: 9090], name("shop/b.example"): [80: 9090]])
        #expect(workload.tunnelProtocol == .hbone && workload.nativeTunnel && workload.capacity == 3)
        #expect(
            workload.serviceAccount == "sa" && workload.network == "n2" && workload.canonicalName == "ext")
        #expect(workload.locality == Locality(region: "r", zone: "z"))
        #expect(resources.workloads.count == 1)
    }

    @Test func `a host without endpoints is looked up by the proxy`() {
        let resources = compileYAML(Self.entry("hosts: [api.example], \(Self.ports), resolution: DNS"))
        let workload = resources.workloads["Kubernetes/networking.istio.io/ServiceEntry/shop/e/api.example"]
        #expect(workload?.hostname == "api.example" && workload?.addresses == [])
        #expect(workload?.services == [name("shop/api.example"): [80: 8080]])
    }

    @Test func `addresses are made up where there are none, and stay`() throws {
        func address(_ texts: String...) throws -> IPAddress? {
            compileYAML(texts.joined(separator: "\n---\n")).services[name("shop/a.example")]?.addresses.first?
                .prefix.address
        }
        let alone = try #require(
            try address(Self.entry("hosts: [a.example], \(Self.ports), resolution: DNS")))
        #expect(Prefix("240.240.0.0/16")?.contains(alone) == true)
        let among = try address(
            Self.entry("hosts: [a.example], \(Self.ports), resolution: DNS"),
            Self.entry("hosts: [c.example, d.example], \(Self.ports), resolution: DNS", name: "f"))
        #expect(among == alone)
        #expect(
            try address(
                Self.entry(
                    "hosts: [a.example], \(Self.ports), resolution: DNS",
                    metadata: ", labels: {networking.istio.io/enable-autoallocate-ip: \"false\"}")) == nil)
        #expect(try address(Self.entry("hosts: [a.example], \(Self.ports), resolution: NONE")) == nil)
    }

    @Test func `without resolution connections pass to where they were going`() {
        let resources = compileYAML(
            Self.entry("hosts: [\"*.example\"], addresses: [10.6.0.1], \(Self.ports), resolution: NONE"))
        let balancing = resources.services[name("shop/*.example")]?.loadBalancing
        #expect(balancing == .init(mode: .passthrough, allowsUnhealthy: true))
        #expect(resources.workloads.isEmpty)
    }

    @Test func `a Service has its host before any ServiceEntry, then the oldest`() {
        let resources = compileYAML(
            documents(
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}",
                Self.entry(
                    "hosts: [web.shop.svc.cluster.local, x.example], addresses: [10.6.0.1], resolution: NONE",
                    name: "a"),
                Self.entry("hosts: [x.example], addresses: [10.6.0.2], resolution: NONE", name: "b"),
                Self.entry(
                    "hosts: [x.example, web.shop.svc.cluster.local], addresses: [10.6.0.3], resolution: NONE",
                    in: "other")))
        func addresses(_ key: String) -> [String]? {
            resources.services[name(key)]?.addresses.map(\.prefix.address.description)
        }
        #expect(addresses("shop/web.shop.svc.cluster.local") == ["10.1.0.1"])
        #expect(addresses("shop/x.example") == ["10.6.0.1"])
        #expect(resources.services[name("shop/x.example")]?.isCanonical == true)
        #expect(resources.services[name("other/x.example")]?.isCanonical == false)
        #expect(resources.services[name("other/web.shop.svc.cluster.local")]?.isCanonical == false)
    }

    @Test func `a selector finds pods and WorkloadEntries`() {
        let resources = compileYAML(
            documents(
                pod("web"),
                "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: shop, labels: {app: web}}\nspec: {address: 192.168.0.2, ports: {http: 7070}}",
                "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 81, targetPort: http}]}",
                policy("selector: {matchLabels: {app: web}}"),
                Self.entry(
                    "hosts: [h.example], \(Self.ports), resolution: STATIC, workloadSelector: {labels: {app: web}}"
                )))
        let key = name("shop/h.example")
        let service = name("shop/s.shop.svc.cluster.local")
        #expect(resources.workloads["Kubernetes//Pod/shop/web"]?.services == [key: [80: 8080], service: [:]])
        let machine = resources.workloads["Kubernetes/networking.istio.io/WorkloadEntry/shop/vm"]
        #expect(machine?.services == [key: [80: 7070], service: [81: 7070]])
        #expect(machine?.authorizationPolicies == [name("shop/p")])
    }

    static let refused: [(String, String)] = [
        ("ports: []", "hosts is missing"), ("hosts: []", "at least one host is needed"),
        ("hosts: [\"a*.example\"]", "is no host name"),
        ("hosts: [\"*.a.example\"], resolution: DNS", "cannot be looked up"),
        ("hosts: [a], addresses: [x]", "neither an IP address nor a range"),
        ("hosts: [a], resolution: STATIC, endpoints: [{address: b.example}]", "is an IP address"),
        ("hosts: [a], resolution: NONE, endpoints: [{address: 1.2.3.4}]", "there are no endpoints"),
        (
            "hosts: [a], endpoints: [{address: 1.2.3.4}], resolution: STATIC, workloadSelector: {labels: {a: b}}",
            "cannot be combined"
        ),
        (
            "hosts: [a], ports: [{number: 80, name: x}, {number: 80, name: z}]",
            "every port number may be there once"
        ),
        ("hosts: [a], resolution: STATIC, endpoints: [{address: \"\"}]", "an address is needed"),
    ]

    @Test(arguments: refused)
    func `refuses`(row: (spec: String, message: String)) {
        let file = ManifestFile(bytes: Array(Self.entry(row.spec).utf8), file: "m.yaml")
        #expect(file.hasErrors)
        #expect(file.problems.contains { $0.message.contains(row.message) }, "\(file.problems)")
    }
}
