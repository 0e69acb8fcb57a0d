import Address
import Compiler
import Manifests
import Mesh
import Testing

struct AuthorizationPolicyTests {
    static func convert(_ spec: String) -> (policy: Policy?, warnings: [String]) {
        let resources = compileYAML(documents(namespace("shop"), pod("web"), policy(spec)))
        return (
            resources.policies[name("shop/p")],
            resources.warnings.map(\.message).filter { $0.hasPrefix("AuthorizationPolicy") }
        )
    }

    static func prefix(_ text: String) -> Prefix { Prefix(text) ?? Prefix(.anyIPv4) }

    static func principals(_ values: Policy.StringMatch...) -> Policy.Match {
        .with { $0.principals = values }
    }
    static func ports(_ values: UInt16...) -> Policy.Match { .with { $0.destinationPorts = values } }

    // Rules of an ALLOW, and what they become at layer 4.
    static let allowed: [(String, [Policy.Rule])] = [
        ("[]", []),
        ("[{}]", rules([])),
        (
            "[{from: [{source: {principals: [a, \"b*\", \"*c\", \"*\"]}}]}]",
            rules([[principals(.exact("a"), .prefix("b"), .suffix("c"), .presence)]])
        ),
        (
            "[{from: [{source: {namespaces: [a], notPrincipals: [b], notNamespaces: [\"c*\"]}}, {source: {principals: [d]}}]}]",
            rules([
                [
                    .with {
                        $0.namespaces = [.exact("a")]
                        $0.notPrincipals = [.exact("b")]
                        $0.notNamespaces = [.prefix("c")]
                    }, principals(.exact("d")),
                ]
            ])
        ),
        (
            "[{from: [{source: {ipBlocks: [10.0.0.0/8, \"::1\"], notIpBlocks: [10.1.2.3]}}]}]",
            rules([
                [
                    .with {
                        $0.sourceIPs = [prefix("10.0.0.0/8"), prefix("::1/128")]
                        $0.notSourceIPs = [prefix("10.1.2.3/32")]
                    }
                ]
            ])
        ),
        (
            "[{from: [{source: {serviceAccounts: [a, other/b], notServiceAccounts: [c]}}]}]",
            rules([
                [
                    .with {
                        $0.serviceAccounts = [
                            .init(namespace: "shop", serviceAccount: "a"),
                            .init(namespace: "other", serviceAccount: "b"),
                        ]
                        $0.notServiceAccounts = [.init(namespace: "shop", serviceAccount: "c")]
                    }
                ]
            ])
        ),
        (
            "[{to: [{operation: {ports: [\"80\", \"443\"]}}, {operation: {notPorts: [\"90\"]}}]}]",
            rules([[ports(80, 443), .with { $0.notDestinationPorts = [90] }]])
        ),
        // Clauses in the order to, from, when; conditions one clause each.
        (
            "[{from: [{source: {principals: [a]}}], to: [{operation: {ports: [\"80\"]}}], when: [{key: source.ip, values: [10.0.0.0/8]}, {key: destination.port, notValues: [\"81\"]}]}]",
            rules([
                [ports(80)], [principals(.exact("a"))], [.with { $0.sourceIPs = [prefix("10.0.0.0/8")] }],
                [.with { $0.notDestinationPorts = [81] }],
            ])
        ),
        (
            "[{when: [{key: source.namespace, values: [a]}, {key: source.principal, values: [\"*\"]}, {key: destination.ip, values: [10.0.0.1]}, {key: source.serviceAccount, values: [b]}]}]",
            rules([
                [.with { $0.namespaces = [.exact("a")] }], [principals(.presence)],
                [.with { $0.destinationIPs = [prefix("10.0.0.1/32")] }],
                [.with { $0.serviceAccounts = [.init(namespace: "shop", serviceAccount: "b")] }],
            ])
        ),
        // Trust domains are the beginning of a principal.
        (
            "[{from: [{source: {trustDomains: [td, \"x*\"]}}]}]",
            rules([[principals(.prefix("td/"), .prefix("x"))]])
        ),
        (
            "[{from: [{source: {notTrustDomains: [td], namespaces: [a]}}]}]",
            rules([
                [
                    .with {
                        $0.namespaces = [.exact("a")]
                        $0.notPrincipals = [.prefix("td/")]
                    }
                ]
            ])
        ),
        (
            "[{from: [{source: {trustDomains: [td], principals: [\"*/sa/x\"]}}, {source: {namespaces: [a]}}], to: [{operation: {ports: [\"80\"]}}]}]",
            rules(
                [[ports(80)], [principals(.suffix("/sa/x"))], [principals(.prefix("td/"))]],
                [[ports(80)], [.with { $0.namespaces = [.exact("a")] }]])
        ),
        (
            "[{when: [{key: source.trustDomain, values: [td], notValues: [\"*\"]}]}]",
            rules([
                [
                    .with {
                        $0.principals = [.prefix("td/")]
                        $0.notPrincipals = [.presence]
                    }
                ]
            ])
        ),
        // Anything of layer 7 leaves the rule out.
        ("[{to: [{operation: {methods: [GET]}}]}]", []),
        ("[{from: [{source: {principals: [a]}}], to: [{operation: {ports: [\"80\"], paths: [/x]}}]}]", []),
        ("[{from: [{source: {requestPrincipals: [\"*\"]}}, {source: {principals: [a]}}]}]", []),
        ("[{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]", []),
        ("[{when: [{key: connection.sni, values: [a]}]}]", []),
        (
            "[{when: [{key: \"request.headers[x]\", values: [a]}]}, {from: [{source: {principals: [a]}}]}]",
            rules([[principals(.exact("a"))]])
        ),
        // What cannot be said must not let in more.
        ("[{from: [{source: {principals: [\"a*b\"]}}]}]", []),
        ("[{from: [{source: {principals: [\"*a*\", c]}}]}]", rules([[principals(.exact("c"))]])),
        ("[{from: [{source: {namespaces: [\"team-*-prod\"], principals: [c]}}]}]", []),
        ("[{from: [{source: {notNamespaces: [\"team-*-prod\"], principals: [c]}}]}]", []),
        (
            "[{from: [{source: {notNamespaces: [\"a*b\"]}}, {source: {principals: [c]}}]}]",
            rules([[principals(.exact("c"))]])
        ),
        ("[{from: [{source: {trustDomains: [\"*x\"]}}]}]", []),
        ("[{from: [{source: {notTrustDomains: [\"*x\"], principals: [a]}}]}]", []),
        ("[{when: [{key: source.namespace, values: [\"a*b\"]}]}]", []),
    ]

    @Test(arguments: allowed)
    func `an ALLOW never allows more than was written`(row: (spec: String, rules: [Policy.Rule])) {
        let result = Self.convert("rules: \(row.spec)")
        #expect(result.policy?.rules == row.rules, "\(row.spec)")
        #expect(result.policy?.action == .allow)
    }

    // Rules of a DENY, and what they become at layer 4.
    static let denied: [(String, [Policy.Rule])] = [
        ("[{}]", rules([])),
        ("[{from: [{source: {principals: [a]}}]}]", rules([[principals(.exact("a"))]])),
        // The part of layer 7 is left out and the rest denies.
        (
            "[{from: [{source: {principals: [a]}}], to: [{operation: {ports: [\"80\"], methods: [GET]}}]}]",
            rules([[ports(80)], [principals(.exact("a"))]])
        ),
        (
            "[{from: [{source: {principals: [a], requestPrincipals: [\"*\"]}}], to: [{operation: {paths: [/x]}}]}]",
            rules([[principals(.exact("a"))]])
        ),
        (
            "[{from: [{source: {namespaces: [a]}}], when: [{key: \"request.headers[x]\", values: [z]}]}]",
            rules([[.with { $0.namespaces = [.exact("a")] }]])
        ),
        // With nothing left it denies always, where ztunnel under istiod would never.
        ("[{to: [{operation: {methods: [DELETE]}}]}]", rules([])),
        ("[{when: [{key: remote.ip, values: [10.0.0.1]}]}]", rules([])),
        ("[{from: [{source: {principals: [a]}}, {source: {requestPrincipals: [\"*\"]}}]}]", rules([])),
        (
            "[{from: [{source: {notRequestPrincipals: [\"*\"]}}], to: [{operation: {ports: [\"80\"]}}]}]",
            rules([[ports(80)]])
        ),
        // What cannot be said must not let through.
        (
            "[{from: [{source: {principals: [\"a*b\"], namespaces: [nn]}}]}]",
            rules([[.with { $0.namespaces = [.exact("nn")] }]])
        ),
        ("[{from: [{source: {principals: [\"a*b\", c]}}]}]", rules([])),
        (
            "[{from: [{source: {notPrincipals: [\"a*b\", c]}}]}]",
            rules([[.with { $0.notPrincipals = [.exact("c")] }]])
        ),
        ("[{from: [{source: {notPrincipals: [\"a*b\"]}}]}]", rules([])),
        (
            "[{from: [{source: {trustDomains: [\"*x\"], principals: [a]}}]}]",
            rules([[principals(.exact("a"))]])
        ),
        ("[{from: [{source: {trustDomains: [td]}}]}]", rules([[principals(.prefix("td/"))]])),
    ]

    @Test(arguments: denied)
    func `a DENY never denies less than was written`(row: (spec: String, rules: [Policy.Rule])) {
        let result = Self.convert("action: DENY, rules: \(row.spec)")
        #expect(result.policy?.rules == row.rules, "\(row.spec)")
        #expect(result.policy?.action == .deny)
    }

    @Test func `parts that are not enforced at layer 4 are named on the object`() {
        let allow = Self.convert("rules: [{to: [{operation: {methods: [GET], hosts: [a]}}]}]")
        #expect(
            allow.warnings == [
                "AuthorizationPolicy shop/p: hosts, methods: not known at layer 4; the rule is left out, so that less is allowed"
            ])
        let deny = Self.convert(
            "action: DENY, rules: [{when: [{key: \"request.auth.claims[a]\", values: [b]}]}]")
        #expect(
            deny.warnings == [
                "AuthorizationPolicy shop/p: request.auth.claims[a]: not known at layer 4; the rule denies without looking at it, so more is denied"
            ])
        let inner = Self.convert("rules: [{from: [{source: {principals: [\"a*b\"]}}]}]")
        #expect(
            inner.warnings.contains {
                $0.contains("\"a*b\" cannot be asked at layer 4; without it less is allowed")
            })
    }

    @Test func `AUDIT, CUSTOM and targeted policies are not sent, and that is said`() {
        for (spec, message) in [
            ("action: AUDIT, rules: [{}]", "AUDIT is not supported"),
            ("action: CUSTOM, provider: {name: x}, rules: [{}]", "the external authorizer is NOT asked"),
            (
                "targetRefs: [{kind: Service, name: web}], rules: [{}]",
                "or of a waypoint that does not exist: nothing enforces it"
            ),
        ] {
            let result = Self.convert(spec)
            #expect(result.policy == nil)
            #expect(result.warnings.contains { $0.contains(message) }, "\(result.warnings)")
        }
    }

    @Test func `scope follows selector and namespace`() {
        let resources = compileYAML(
            documents(
                namespace("shop"), pod("web"), pod("db", "10.0.0.2", labels: "app: db"),
                pod("other", in: "elsewhere", "10.0.0.3"), policy("rules: [{}]", name: "ns"),
                policy("rules: [{}]", name: "mesh", in: "istio-system"),
                policy("selector: {matchLabels: {app: web}}", name: "mine"),
                policy("selector: {matchLabels: {}}, rules: [{}]", name: "empty"),
                policy("selector: {matchLabels: {app: web}}", name: "root", in: "istio-system"),
                policy("selector: {matchLabels: {app: nobody}}", name: "none")))
        #expect(resources.policies[name("shop/ns")]?.scope == .namespace)
        #expect(resources.policies[name("shop/empty")]?.scope == .namespace)
        #expect(resources.policies[name("istio-system/mesh")]?.scope == .global)
        #expect(resources.policies[name("shop/mine")]?.scope == .workloadSelector)
        func attached(_ uid: String) -> [String]? {
            resources.workloads[uid]?.authorizationPolicies.map(\.description)
        }
        #expect(attached("Kubernetes//Pod/shop/web") == ["istio-system/root", "shop/mine"])
        #expect(attached("Kubernetes//Pod/shop/db") == [])
        #expect(attached("Kubernetes//Pod/elsewhere/other") == ["istio-system/root"])
        #expect(resources.warnings.map(\.message).contains("AuthorizationPolicy shop/none selects no Pod"))
    }

    @Test func `a policy in rehearsal is marked, or held back`() {
        let text =
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop, annotations: {istio.io/dry-run: \"true\"}}"
        #expect(compileYAML(text).policies[name("shop/p")]?.isDryRun == true)
        var environment = Environment()
        environment.publishesDryRuns = false
        let resources = compileYAML(text, environment)
        #expect(resources.policies.isEmpty)
        #expect(resources.warnings.contains { $0.message.contains("rehearsal") })
    }
}
