import Address
import Compiler
import Documents
import Manifests
import Mesh
import Testing

struct WorkloadTests {
    static func workload(_ texts: String..., in environment: Environment = Environment()) -> Workload? {
        compileYAML(texts.joined(separator: "\n---\n"), environment).workloads["Kubernetes//Pod/shop/web"]
    }

    @Test func `a pod becomes a workload with everything a proxy needs`() throws {
        let resources = compileYAML(
            documents(
                namespace("istio-system", "topology.istio.io/network: net1"), namespace("shop"),
                "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, topology.istio.io/subzone: s}}",
                pod(
                    "web", labels: "app: web, version: v2",
                    spec:
                        "nodeName: n1, serviceAccountName: front, containers: [{ports: [{name: http, containerPort: 8080}]}]",
                    status: "podIPs: [{ip: \"fd00::1\"}]"),
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: x, port: 81, targetPort: nope}, {name: u, port: 82, protocol: UDP}, {name: num, port: 83, targetPort: 9}]}"
            ))
        let workload = try #require(resources.workloads["Kubernetes//Pod/shop/web"])
        let expected = Workload(
            uid: "Kubernetes//Pod/shop/web", name: "web", namespace: "shop",
            addresses: [try #require(IPAddress("10.0.0.1")), try #require(IPAddress("fd00::1"))],
            network: "net1",
            tunnelProtocol: .hbone, trustDomain: "cluster.local", serviceAccount: "front", node: "n1",
            canonicalName: "web", canonicalRevision: "v2", kind: .pod, workloadName: "web",
            services: [name("shop/web.shop.svc.cluster.local"): [80: 8080, 83: 9]],
            locality: Locality(region: "r", zone: "z", subzone: "s"))
        #expect(workload == expected)
        #expect(resources.warnings == [])
        #expect(resources.nodes == ["n1"])
        #expect(
            resources.identities == [
                "n1": [Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "front")]
            ])
        #expect(
            resources.localPods == [
                "n1": [
                    LocalPod(
                        uid: "shop/web", namespace: "shop", name: "web", serviceAccount: "front",
                        labels: ["app": "web", "version": "v2"], addresses: expected.addresses,
                        networkNamespace: "web-ns")
                ]
            ])
    }

    // Metadata of the namespace and of the pod, whether that asks for encryption, and how many warnings it brings.
    static let sameNode: [(String, String, Bool, Int)] = [
        ("labels: {a: b}", "labels: {a: b}", false, 0),
        ("labels: {a: b}", "labels: {warren.dev/same-node: encrypt}", true, 0),
        ("labels: {a: b}", "annotations: {warren.dev/same-node: encrypt}", true, 0),
        ("labels: {warren.dev/same-node: encrypt}", "labels: {a: b}", true, 0),
        ("annotations: {warren.dev/same-node: encrypt}", "labels: {a: b}", true, 0),
        // A pod cannot opt out, and what is no value is taken for the one there is.
        ("labels: {warren.dev/same-node: encrypt}", "labels: {warren.dev/same-node: plain}", true, 1),
        ("labels: {a: b}", "annotations: {warren.dev/same-node: \"\"}", true, 1),
        ("labels: {warren.dev/same-node: \"off\"}", "annotations: {warren.dev/same-node: Encrypt}", true, 2),
    ]

    @Test(arguments: sameNode)
    func `a namespace or a pod asks for encryption on its own node`(
        row: (namespace: String, pod: String, encrypts: Bool, warnings: Int)
    ) {
        let resources = compileYAML(
            documents(
                "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, \(row.namespace)}",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, \(row.pod)}\nstatus: {podIP: 10.0.0.1}"
            ))
        #expect(resources.workloads["Kubernetes//Pod/shop/web"]?.encryptsOnSameNode == row.encrypts, "\(row)")
        #expect(resources.warnings.count == row.warnings, "\(resources.warnings)")
        #expect(resources.warnings.allSatisfy { "\($0)".contains("the only value is encrypt") })
    }

    // Labels of namespace and pod, further metadata and specification, whether it is in the mesh.
    static let enrolment: [(String, String, String, String, Bool)] = [
        ("istio.io/dataplane-mode: ambient", "a: b", "", "", true),
        ("a: b", "istio.io/dataplane-mode: ambient", "", "", true),
        ("a: b", "a: b", "", "", false),
        ("istio.io/dataplane-mode: ambient", "istio.io/dataplane-mode: none", "", "", false),
        ("istio.io/dataplane-mode: none", "istio.io/dataplane-mode: ambient", "", "", true),
        ("istio.io/dataplane-mode: ambient", "istio.io/dataplane-mode: other", "", "", false),
        ("istio.io/dataplane-mode: ambient", "a: b", "", "hostNetwork: true, ", false),
        ("istio.io/dataplane-mode: ambient", "a: b", "sidecar.istio.io/status: x, ", "", false),
        ("istio-injection: enabled", "a: b", "", "", false),
    ]

    @Test(arguments: enrolment)
    func `labels enrol a pod`(
        row: (namespace: String, pod: String, annotation: String, spec: String, isEnrolled: Bool)
    ) {
        let resources = compileYAML(
            documents(
                namespace("shop", row.namespace),
                pod(
                    "web", labels: row.pod,
                    metadata: "annotations: {\(row.annotation)warren.dev/netns: web-ns}",
                    spec: "\(row.spec)nodeName: n1")))
        let workload = resources.workloads["Kubernetes//Pod/shop/web"]
        #expect(
            workload?.tunnelProtocol == (row.isEnrolled ? .hbone : Workload.TunnelProtocol.none), "\(row)")
        #expect(resources.localPods.isEmpty != row.isEnrolled, "\(row)")
        #expect(resources.identities.isEmpty != row.isEnrolled, "\(row)")
    }

    @Test func `on Kubernetes the agent's annotation decides`() {
        let environment = Environment(enrolment: .annotation)
        let pending = pod("web", metadata: "annotations: {ambient.istio.io/redirection: pending}")
        let enabled = pod("web", metadata: "annotations: {ambient.istio.io/redirection: enabled}")
        #expect(
            Self.workload(namespace("shop"), pending, in: environment)?.tunnelProtocol
                == Workload.TunnelProtocol.none)
        #expect(Self.workload(namespace("shop"), enabled, in: environment)?.tunnelProtocol == .hbone)
        #expect(Self.workload(enabled, in: environment)?.status == .unhealthy)
    }

    @Test func `a pod that speaks HBONE itself says so by label`() {
        let workload = Self.workload(pod("web", labels: "networking.istio.io/tunnel: http"))
        #expect(workload?.tunnelProtocol == .hbone)
        #expect(workload?.nativeTunnel == true)
    }

    @Test func `readiness, the end and the phase of a pod show`() {
        func status(_ text: String, metadata: String = "annotations: {}") -> Workload.Status? {
            Self.workload(pod("web", metadata: metadata, status: text))?.status
        }
        #expect(status("") == .healthy)
        #expect(status("phase: Pending") == .healthy)
        #expect(status("conditions: [{type: Ready, status: \"True\"}]") == .healthy)
        #expect(status("conditions: [{type: Ready, status: \"False\"}]") == .unhealthy)
        #expect(status("", metadata: "deletionTimestamp: \"2026-01-01T00:00:00Z\"") == .unhealthy)
        #expect(status("phase: Succeeded") == nil)
        #expect(status("phase: Failed") == nil)
    }

    @Test func `the workload is named after what made the pod`() {
        func name(_ metadata: String, labels: String = "a: b") -> String? {
            Self.workload(pod("web", labels: labels, metadata: metadata))?.workloadName
        }
        func owner(_ kind: String, _ name: String) -> String {
            "ownerReferences: [{kind: \(kind), name: \(name), controller: true}]"
        }
        #expect(name("annotations: {}") == "web")
        #expect(name(owner("ReplicaSet", "shop-5d4f"), labels: "pod-template-hash: 5d4f") == "shop")
        #expect(name(owner("ReplicaSet", "shop-5d4f")) == "shop-5d4f")
        #expect(name(owner("Job", "backup-28912345")) == "backup")
        #expect(name(owner("Job", "backup")) == "backup")
        #expect(name(owner("StatefulSet", "db")) == "db")
        let deployment =
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: front, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}}}"
        #expect(Self.workload(deployment, pod("web"))?.workloadName == "front")
    }

    @Test func `canonical names follow their labels`() {
        func canonical(_ labels: String) -> [String?] {
            let workload = Self.workload(pod("web", labels: labels))
            return [workload?.canonicalName, workload?.canonicalRevision]
        }
        #expect(canonical("x: z") == ["web", "latest"])
        #expect(canonical("app: a, version: v1") == ["a", "v1"])
        #expect(
            canonical("app: a, version: v1, app.kubernetes.io/name: b, app.kubernetes.io/version: v2") == [
                "b", "v2",
            ])
        #expect(
            canonical(
                "app.kubernetes.io/name: b, service.istio.io/canonical-name: c, service.istio.io/canonical-revision: v3"
            )
                == ["c", "v3"])
    }

    @Test func `what comes to nothing is pointed out`() {
        let resources = compileYAML(
            documents(
                namespace("shop"),
                "apiVersion: v1\nkind: Pod\nmetadata: {name: lost, namespace: shop, labels: {istio.io/use-waypoint: wp}}",
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\nspec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}}}",
                "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {selector: {app: x}, ports: [{port: 80}]}",
                pod("a", "10.0.0.9"), pod("b", "10.0.0.9")))
        let messages = resources.warnings.map(\.message)
        for text in [
            "Pod shop/lost has no address yet", "Pod shop/lost names no node",
            "has no annotation warren.dev/netns",
            "the waypoint shop/wp does not exist", "Deployment shop/d selects no Pod",
            "Service shop/s selects no Pod",
            "Service shop/s has no clusterIP", "Pod shop/a is on node n1, which no Node object declares",
            "the address 10.0.0.9 also belongs to Pod shop/a",
        ] { #expect(messages.contains { $0.contains(text) }, "\(text)\n\(messages)") }
    }

    @Test func `the outcome does not depend on the order of objects`() {
        let texts = [
            namespace("shop"), pod("web"), pod("db", "10.0.0.2", labels: "app: db"), policy("rules: [{}]"),
            peerAuthentication("mtls: {mode: STRICT}"),
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]}",
        ]
        func compiled(_ texts: [String]) -> MeshResources {
            var resources = compileYAML(texts.joined(separator: "\n---\n"))
            resources.warnings = []
            return resources
        }
        #expect(compiled(texts) == compiled(texts.reversed()))
    }

    @Test func `an object is there once, by its first file`() {
        func file(_ name: String, _ address: String) -> ManifestFile {
            ManifestFile(bytes: Array(pod("web", address).utf8), file: name)
        }
        var store = ObjectStore()
        let problems = store.merge([file("b.yaml", "10.0.0.2"), file("a.yaml", "10.0.0.1")])
        #expect(
            problems.map(\.description) == [
                "b.yaml:1:1: Pod shop/web is already defined at a.yaml:1:1: this one is ignored"
            ])
        #expect(compile(store).workloads.values.first?.addresses.map(\.description) == ["10.0.0.1"])
    }
}
