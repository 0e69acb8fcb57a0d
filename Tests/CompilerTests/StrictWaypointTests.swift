import Address
import Compiler
import Mesh
import Testing

struct StrictWaypointTests {
    static let strict = "warren.dev/waypoint: strict"
    static let principal = "cluster.local/ns/shop/sa/wp"

    struct Row: CustomStringConvertible {
        var title: String
        var namespace = ""
        var service = ""
        var pod = ""
        var gateway = WaypointTests.gateway()
        var others = ""
        /// The policy, without its prefix; nil where there is none.
        var policy: String?
        /// Ports, and who may reach them.
        var rules: [([UInt16], [String])] = []
        var description: String { title }
    }

    static let use = WaypointTests.use
    static let all = WaypointTests.gateway(labels: "istio.io/waypoint-for: all")

    static let rows: [Row] = [
        Row(title: "nobody asks", service: use),
        Row(title: "asked for, and no waypoint used", service: strict),
        Row(
            title: "a service asks", service: "\(use), \(strict)", policy: "wp_8080",
            rules: [([8080], [principal])]),
        Row(
            title: "the namespace asks", namespace: strict, service: use, policy: "wp_8080",
            rules: [([8080], [principal])]),
        Row(
            title: "the pod asks", service: use, pod: strict, policy: "wp_8080",
            rules: [([8080], [principal])]),
        Row(
            title: "no valid value", service: "\(use), warren.dev/waypoint: \"no\"", policy: "wp_8080",
            rules: [([8080], [principal])]),
        Row(
            title: "a service that opts out of the waypoint", namespace: strict,
            service: "istio.io/use-waypoint: none"),
        Row(
            title: "the waypoint does not exist", service: "\(use), \(strict)",
            gateway: WaypointTests.gateway("other"), policy: "nobody_8080", rules: [([8080], [])]),
        Row(
            title: "the pod's own waypoint, too", namespace: "\(strict), \(use)", gateway: all,
            policy: "wp_8080_wp_every", rules: [([8080], [principal]), ([], [principal])]),
        Row(
            title: "the pod's own waypoint alone", pod: "\(strict), \(use)", gateway: all, policy: "wp_every",
            rules: [([], [principal])]),
        Row(
            title: "a port of two services", service: "\(use), \(strict)",
            others: documents(
                WaypointTests.gateway("second", addresses: "[{value: 10.9.0.2}]"),
                replica(of: "second"),
                service("too", "istio.io/use-waypoint: second, \(strict)", "[{port: 81, targetPort: 8080}]")),
            policy: "second+wp_8080",
            rules: [([8080], ["cluster.local/ns/shop/sa/second", principal])]),
        Row(
            title: "a ServiceEntry of the Service's name does not undo it", service: "\(use), \(strict)",
            others:
                "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nspec: {hosts: [web.shop.svc.cluster.local], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: STATIC}",
            policy: "wp_8080", rules: [([8080], [principal])]),
        Row(
            title: "another service's port stays open", service: "\(use), \(strict)",
            others: service("too", use, "[{port: 81, targetPort: 8081}]"), policy: "wp_8080",
            rules: [([8080], [principal])]),
    ]

    static func service(_ name: String, _ labels: String, _ ports: String) -> String {
        "apiVersion: v1\nkind: Service\nmetadata: {name: \(name), namespace: shop, labels: {\(labels)}}\nspec: {clusterIP: 10.1.0.\(name.utf8.count), selector: {app: web}, ports: \(ports)}"
    }

    static func replica(of waypoint: String) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: \(waypoint)-1, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: \(waypoint)}, annotations: {warren.dev/netns: ns}}
        spec: {nodeName: n1, serviceAccountName: \(waypoint)}
        status: {podIP: 10.0.9.\(waypoint.utf8.count)}
        """
    }

    @Test(arguments: rows)
    func `what goes around a waypoint is denied`(row: Row) throws {
        var texts = [
            namespace(
                "shop",
                row.namespace.isEmpty
                    ? "istio.io/dataplane-mode: ambient"
                    : "istio.io/dataplane-mode: ambient, \(row.namespace)"),
            row.gateway, Self.replica(of: "wp"),
            Self.service("web", row.service, "[{port: 80, targetPort: 8080}]"),
            pod("web", labels: row.pod.isEmpty ? "app: web" : "app: web, \(row.pod)"),
        ]
        if !row.others.isEmpty { texts.append(row.others) }
        let resources = compileYAML(texts.joined(separator: "\n---\n"))
        let attached = resources.workloads["Kubernetes//Pod/shop/web"]?.authorizationPolicies
        let expected = row.policy.map { [name("shop/strict_waypoint_\($0)")] } ?? []
        #expect(attached == expected)
        #expect(Array(resources.policies.keys) == expected)
        guard let policy = expected.first.flatMap({ resources.policies[$0] }) else { return }
        #expect(policy.action == .deny && policy.scope == .workloadSelector && !policy.isDryRun)
        #expect(policy.rules.count == row.rules.count)
        for (rule, (ports, principals)) in zip(policy.rules, row.rules) {
            let match = try #require(rule.clauses.first?.matches.first)
            #expect(rule.clauses.count == 1 && match.destinationPorts == ports && !match.isEmpty)
            #expect(match.notPrincipals == principals.map { .exact($0) })
            #expect(match.sourceIPs.isEmpty == !ports.isEmpty)
        }
        // The waypoint itself is asked nothing of this.
        #expect(resources.workloads["Kubernetes//Pod/shop/wp-1"]?.authorizationPolicies == [])
    }

    @Test func `a value that is none is told of`() {
        let warnings = compileYAML(
            documents(
                namespace("shop", "warren.dev/waypoint: strict"),
                Self.service("web", "warren.dev/waypoint: lax", "[{port: 80}]"), pod("web"))
        ).warnings.map(\.message)
        #expect(
            warnings == [
                "Service shop/web: label warren.dev/waypoint is \"lax\"; the only value is strict, and that is what it is taken for"
            ])
    }
}
