import Compiler
import Manifests
import Mesh
import Testing

struct PeerAuthenticationTests {
    enum Attached: Equatable { case nothing, staticStrict, converted([Policy.Rule]) }

    static let plain = Policy.Match.with { $0.notPrincipals = [.presence] }

    static func exempt(_ ports: UInt16...) -> Attached {
        .converted([
            Policy.Rule(
                clauses: [Policy.Clause(matches: [plain])]
                    + ports.map { port in Policy.Clause(matches: [.with { $0.notDestinationPorts = [port] }])
                    })
        ])
    }

    static func strict(_ ports: UInt16...) -> Attached {
        .converted(
            ports.map { port in
                Policy.Rule(clauses: [
                    Policy.Clause(matches: [
                        .with {
                            $0.notPrincipals = [.presence]
                            $0.destinationPorts = [port]
                        }
                    ])
                ])
            })
    }

    // Mode of mesh, namespace and workload; ports of the workload's; what the workload refers to.
    static let rows: [(mesh: String, namespace: String, workload: String, ports: String, Attached)] = [
        ("", "", "", "", .nothing),
        ("PERMISSIVE", "", "", "", .nothing),
        ("DISABLE", "", "", "", .nothing),
        ("STRICT", "", "", "", .staticStrict),
        ("STRICT", "PERMISSIVE", "", "", .nothing),
        ("STRICT", "DISABLE", "", "", .nothing),
        ("STRICT", "UNSET", "", "", .staticStrict),
        ("PERMISSIVE", "STRICT", "", "", .staticStrict),
        ("", "STRICT", "PERMISSIVE", "", .nothing),
        ("", "STRICT", "DISABLE", "", .nothing),
        ("", "STRICT", "UNSET", "", .staticStrict),
        ("", "", "STRICT", "", .staticStrict),
        ("", "", "STRICT", "80: STRICT, 90: STRICT", .staticStrict),
        ("", "", "STRICT", "90: PERMISSIVE", exempt(90)),
        ("", "", "STRICT", "90: DISABLE", exempt(90)),
        ("", "", "STRICT", "90: DISABLE, 80: PERMISSIVE, 70: STRICT, 60: UNSET", exempt(80, 90)),
        ("", "", "PERMISSIVE", "90: STRICT, 80: STRICT, 70: DISABLE", strict(80, 90)),
        ("STRICT", "", "DISABLE", "90: STRICT", strict(90)),
        ("", "", "PERMISSIVE", "90: PERMISSIVE", .nothing),
        ("", "", "PERMISSIVE", "90: DISABLE", .nothing),
        ("STRICT", "", "UNSET", "90: PERMISSIVE", exempt(90)),
        ("", "STRICT", "UNSET", "90: PERMISSIVE, 80: DISABLE", exempt(80, 90)),
        ("STRICT", "", "UNSET", "90: DISABLE", .staticStrict),
        ("", "STRICT", "UNSET", "90: STRICT", .staticStrict),
        ("PERMISSIVE", "", "UNSET", "90: STRICT", strict(90)),
        ("", "", "UNSET", "90: PERMISSIVE", .nothing),
        ("STRICT", "PERMISSIVE", "UNSET", "90: STRICT", strict(90)),
    ]

    @Test(arguments: rows)
    func `attaches what the modes come to`(
        row: (mesh: String, namespace: String, workload: String, ports: String, expected: Attached)
    ) {
        var texts = [namespace("shop"), pod("web")]
        if !row.mesh.isEmpty {
            texts.append(peerAuthentication("mtls: {mode: \(row.mesh)}", name: "mesh", in: "istio-system"))
        }
        if !row.namespace.isEmpty {
            texts.append(peerAuthentication("mtls: {mode: \(row.namespace)}", name: "ns"))
        }
        if !row.workload.isEmpty {
            let ports = row.ports.split(separator: ", ").map { port in
                let parts = port.split(separator: ": ")
                return "\(parts[0]): {mode: \(parts[1])}"
            }
            let list = ports.isEmpty ? "" : ", portLevelMtls: {\(ports.joined(separator: ", "))}"
            texts.append(
                peerAuthentication(
                    "selector: {matchLabels: {app: web}}, mtls: {mode: \(row.workload)}\(list)", name: "w"))
        }
        let resources = compileYAML(texts.joined(separator: "\n---\n"))
        let names = resources.workloads["Kubernetes//Pod/shop/web"]?.authorizationPolicies
        let staticName = name("istio-system/istio_converted_static_strict")
        let convertedName = name("shop/converted_peer_authentication_w")
        let title = "\(row)"
        switch row.expected {
        case .nothing:
            #expect(names == [], "\(title)")
            #expect(resources.policies[convertedName] == nil, "\(title)")
        case .staticStrict:
            #expect(names == [staticName], "\(title)")
            #expect(resources.policies[convertedName] == nil, "\(title)")
        case .converted(let rules):
            #expect(names == [convertedName], "\(title)")
            #expect(resources.policies[convertedName]?.rules == rules, "\(title)")
            #expect(resources.policies[convertedName]?.action == .deny)
            #expect(resources.policies[convertedName]?.scope == .workloadSelector)
        }
        // Sent as soon as there is any PeerAuthentication, used or not.
        let hasAny = texts.count > 2
        #expect((resources.policies[staticName] != nil) == hasAny, "\(title)")
    }

    @Test func `the static policy denies callers without identity`() {
        let resources = compileYAML(peerAuthentication("mtls: {mode: STRICT}"))
        let policy = resources.policies[name("istio-system/istio_converted_static_strict")]
        #expect(policy?.rules == rules([[Self.plain]]))
        #expect(policy?.action == .deny && policy?.scope == .workloadSelector)
    }

    @Test func `the oldest of a level counts, then the first by name`() {
        let base = documents(namespace("shop"), pod("web"))
        let byAge = documents(
            base, peerAuthentication("mtls: {mode: STRICT}", name: "a", created: "2026-02-01T00:00:00Z"),
            peerAuthentication("mtls: {mode: PERMISSIVE}", name: "b", created: "2026-01-01T00:00:00Z"))
        #expect(compileYAML(byAge).workloads.values.first?.authorizationPolicies == [])
        let byName = documents(
            base, peerAuthentication("mtls: {mode: PERMISSIVE}", name: "b"),
            peerAuthentication("mtls: {mode: STRICT}", name: "a"))
        let resources = compileYAML(byName)
        #expect(
            resources.workloads.values.first?.authorizationPolicies.map(\.name) == [
                "istio_converted_static_strict"
            ])
        #expect(resources.warnings.contains { $0.message.contains("an older PeerAuthentication") })
    }

    @Test func `in the root namespace a selector has no effect`() {
        let resources = compileYAML(
            documents(
                namespace("istio-system"), pod("web", in: "istio-system"),
                peerAuthentication(
                    "selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}",
                    in: "istio-system")))
        #expect(resources.workloads.values.first?.authorizationPolicies == [])
        #expect(resources.policies.count == 1)
        #expect(resources.warnings.contains { $0.message.contains("no effect in the root namespace") })
    }

    @Test func `a port that stays strict against its author's wish is pointed out`() {
        let resources = compileYAML(
            documents(
                namespace("shop"), pod("web"), peerAuthentication("mtls: {mode: STRICT}", name: "ns"),
                peerAuthentication(
                    "selector: {matchLabels: {app: web}}, portLevelMtls: {90: {mode: DISABLE}}", name: "w")))
        #expect(resources.warnings.contains { $0.message.contains("ports 90 stay strict") })
    }
}
