import Address
import Documents
import Manifests
import Testing

struct ManifestTests {
    static func file(_ text: String, name: String = "m.yaml") -> ManifestFile {
        ManifestFile(bytes: Array(text.utf8), file: name)
    }

    @Test func `decodes the kinds of a small mesh`() throws {
        let file = Self.file(
            """
            apiVersion: v1
            kind: Namespace
            metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {warren.dev/netns: web}}
            spec:
              nodeName: n1
              serviceAccountName: web
              containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}]
              initContainers: [{name: s, restartPolicy: Always, ports: [{containerPort: 9}]}, {name: i, ports: [{containerPort: 1}]}]
            status: {podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec:
              clusterIP: 10.1.0.1
              selector: {app: web}
              ports: [{name: http, port: 80, targetPort: http}, {name: grpc, port: 90, appProtocol: grpc}]
            """)
        #expect(file.problems == [])
        #expect(
            file.manifests.map(\.key.description) == ["Namespace shop", "Pod shop/web-1", "Service shop/web"])
        guard case .pod(let pod) = file.manifests[1], case .service(let service) = file.manifests[2] else {
            Issue.record("wrong kinds")
            return
        }
        #expect(pod.ports.map(\.port) == [8080, 53, 9])
        #expect(pod.addresses == [try #require(IPAddress("10.0.0.2")), try #require(IPAddress("fd00::2"))])
        #expect(pod.ready == nil)
        #expect(pod.nodeName == "n1" && pod.serviceAccountName == "web" && !pod.isTerminal)
        #expect(service.ports.map(\.target) == [.name("http"), .number(90)])
    }

    @Test func `a List is its items, and JSON is read by its name`() {
        let file = Self.file(
            #"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}]}"#,
            name: "m.json")
        #expect(file.problems == [])
        #expect(file.manifests.map(\.key.description) == ["Namespace a"])
    }

    // A document and the message it gets.
    static let messages: [(String, String)] = [
        ("kind: Pod", "m.yaml:1:1: apiVersion is missing"),
        ("apiVersion: v1", "m.yaml:1:1: kind is missing"),
        ("- a", "m.yaml:1:1: expected a mapping, got a sequence"),
        ("apiVersion: a/b/c\nkind: Pod", "an API version is group/version"),
        (
            "apiVersion: v2\nkind: Pod\nmetadata: {name: a}",
            "m.yaml:1:13: apiVersion: Pod is served as v1, not \"v2\""
        ),
        (
            "apiVersion: security.istio.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: a}",
            "served as security.istio.io/v1 or security.istio.io/v1beta1"
        ),
        ("apiVersion: v1\nkind: Pod", "metadata is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}", "metadata: name is missing"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}",
            "m.yaml:3:18: metadata.name: a name of at most 253"
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: 1a}\nspec: {}",
            "a service's name begins with a letter"
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}", "a name of 1 to 63"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: A}",
            "metadata.namespace: a name of 1 to 63"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: on}}",
            "got the boolean true (written on): put it in quotes"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: -a}}",
            "a label's value has at most 63"
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {\"a b\": c}}", "a key is [domain/]name"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, lables: {}}",
            "warning: metadata: unknown field \"lables\"; did you mean labels?"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {nodename: x}",
            "warning: spec: unknown field \"nodename\"; did you mean nodeName?"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIP: 1.2.3}",
            "\"1.2.3\" is no address of a pod"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {podIP: 0.0.0.0}",
            "is no address of a pod"
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {sidecar.istio.io/inject: \"false\"}}",
            "keeps a pod out of the mesh"
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {istio-injection: enabled}}",
            "istio.io/dataplane-mode=ambient enrols"
        ),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}", "spec is missing"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0}]}",
            "spec.ports[0].port: 0 is not between 1 and 65535"
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}, {port: 2}]}",
            "each of several ports needs a name"
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, name: a}, {port: 1, name: b}]}",
            "port 1/TCP is already in this service"
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, targetPort: \"8080\"}]}",
            "a port name of 1 to 15"
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.0.1}",
            "is neither an address for a service nor None"
        ),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: Cluster}", "is none of ClusterIP"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {k: \"hunter2!\"}",
            "data.k: this is not Base64"
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, template: {}}",
            "does not select the pods"
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\nendpoints: [{addresses: [\"::1\"]}]",
            "is no IPv4 address"
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: {mode: strict}}",
            "did you mean STRICT?"
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {portLevelMtls: {80: {mode: STRICT}}}",
            "modes of single ports need a selector"
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
            "at least one port has to be named"
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {selector: {matchLabels: {a: b}}, portLevelMtls: {70000: {mode: STRICT}}}",
            "\"70000\" is no port"
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}",
            "m.yaml:2:7: warning: kind: RequestAuthentication (security.istio.io/v1) is not supported: no token is validated"
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}",
            "egress is not restricted by it"
        ),
        ("apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}", "it has no effect on the mesh"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}",
            "m.yaml:5:1: Namespace a is already defined at m.yaml:1:1"
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: [", "m.yaml:5:1"),
    ]

    @Test(arguments: messages)
    func `says what is wrong and where`(row: (text: String, message: String)) {
        let messages = Self.file(row.text).problems.map(\.description)
        #expect(messages.contains { $0.contains(row.message) }, "\(row.text)\n\(messages)")
        #expect(!messages.contains { $0.contains("hunter2") }, "a secret is never repeated")
    }

    @Test func `all problems of a file are found together, by position`() {
        let file = Self.file(
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: "A"}
            spec: {hostNetwork: maybe}
            ---
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata: {name: a}
            spec: {mtls: {mode: ON}, extra: 1}
            ---
            apiVersion: v1
            kind: Namespace
            metadata: {name: good}
            """)
        #expect(file.problems.map(\.position.line) == [3, 9, 9])
        #expect(file.manifests.map(\.key.description) == ["Namespace good"])
        #expect(file.hasErrors)
    }

    @Test func `a pod that has conditions is ready when they say so`() {
        func ready(_ conditions: String) -> Bool? {
            let file = Self.file(
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {phase: Running, conditions: \(conditions)}"
            )
            if case .pod(let pod) = file.manifests.first { return pod.ready }
            return nil
        }
        #expect(ready("[]") == nil)
        #expect(ready("[{type: Ready, status: \"True\"}]") == true)
        #expect(ready("[{type: Ready, status: \"False\"}]") == false)
        #expect(ready("[{type: Initialized, status: \"True\"}]") == false)
        #expect(ready("[{type: Ready, status: \"True\"}, {type: PodScheduled, status: \"True\"}]") == true)
    }

    @Test func `mutated manifests never trap`() {
        let seed = Array(
            """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: a, labels: {x: y}}
            spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}], when: [{key: "request.headers[a]", values: [b]}]}]}
            """.utf8)
        var state: UInt64 = 0xcafe
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(truncatingIfNeeded: state >> 33) % bound
        }
        for _ in 0..<3_000 {
            var bytes = seed
            for _ in 0...random(4) {
                let at = random(bytes.count)
                switch random(3) {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: random(256))
                case 1: bytes.remove(at: at)
                default: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + random(20))], at: at)
                }
            }
            _ = ManifestFile(bytes: bytes, file: random(4) == 0 ? "m.json" : "m.yaml")
        }
    }
}
