import Documents
import Manifests
import Testing

struct AuthorizationPolicyTests {
    static func messages(_ spec: String, head: String = "") -> [String] {
        let text = """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: p, namespace: shop\(head)}
            spec:
            \(spec.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n"))
            """
        return ManifestFile(bytes: Array(text.utf8), file: "p.yaml").problems.map(\.description)
    }

    // Specification, and the one message it gets. Line 5 is the specification's first.
    static let refused: [(String, String)] = [
        (
            "action: DENNY",
            "p.yaml:5:11: spec.action: \"DENNY\" is none of ALLOW, DENY, AUDIT, CUSTOM; did you mean DENY?"
        ),
        ("action: DENY", "a DENY policy without rules never does anything"),
        ("action: CUSTOM\nprovider: {name: x}", "a CUSTOM policy without rules never does anything"),
        ("action: CUSTOM\nrules: [{}]", "the action CUSTOM needs provider.name"),
        ("provider: {name: x}\nrules: [{}]", "a provider belongs to the action CUSTOM"),
        ("rules:\n- from: []", "p.yaml:6:11: spec.rules[0].from: must not be empty"),
        ("rules:\n- from: [{}]", "spec.rules[0].from[0]: source is missing"),
        (
            "rules:\n- from: [{source: {}}]",
            "spec.rules[0].from[0].source: at least one attribute has to be set"
        ),
        (
            "rules:\n- to: [{operation: {}}]",
            "spec.rules[0].to[0].operation: at least one attribute has to be set"
        ),
        (
            "rules:\n- to: [{operation: {ports: []}}]",
            "spec.rules[0].to[0].operation.ports: must not be empty"
        ),
        (
            "rules:\n- to: [{operation: {ports: [80]}}]",
            "expected a string, got the number 80: put it in quotes"
        ),
        ("rules:\n- to: [{operation: {ports: [\"0\"]}}]", "\"0\" is no port between 1 and 65535"),
        ("rules:\n- to: [{operation: {ports: [\"65536\"]}}]", "\"65536\" is no port between 1 and 65535"),
        ("rules:\n- to: [{operation: {paths: [\"/a/{*}/b*\"]}}]", "a template has {*} for one segment"),
        ("rules:\n- to: [{operation: {paths: [\"/{**}/{*}\"]}}]", "nothing with a wildcard may follow {**}"),
        ("rules:\n- from: [{source: {ipBlocks: [10.0.0.300]}}]", "neither an IP address nor a range"),
        ("rules:\n- from: [{source: {ipBlocks: [\"10.0.0.0/33\"]}}]", "neither an IP address nor a range"),
        (
            "rules:\n- from: [{source: {principals: [\"\"]}}]",
            "spec.rules[0].from[0].source.principals[0]: must not be empty"
        ),
        (
            "rules:\n- from: [{source: {principals: [\"spiffe://a/ns/b/sa/c\"]}}]",
            "written without spiffe://: \"a/ns/b/sa/c\""
        ),
        ("rules:\n- from: [{source: {serviceAccounts: [\"a/*\"]}}]", "wildcards are not possible"),
        (
            "rules:\n- from: [{source: {serviceAccounts: [a/b/c]}}]",
            "a service account is NAME or NAMESPACE/NAME"
        ),
        ("rules:\n- from: [{source: {serviceAccounts: [a], namespaces: [b]}}]", "cannot be combined"),
        ("rules:\n- from: [{source: {trustDomains: [\"a*b\"]}}]", "is no trust domain"),
        (
            "rules:\n- from: [{source: {principles: [a]}}]",
            "unknown field \"principles\"; did you mean principals?"
        ),
        (
            "rules:\n- when: [{key: request.time, values: [\"09:00\"]}]",
            "a schedule takes an external authorizer"
        ),
        ("rules:\n- when: [{key: destination.namespace, values: [a]}]", "a selector does the same"),
        (
            "rules:\n- when: [{key: request.headers, values: [a]}]",
            "headers are written request.headers[name]"
        ),
        ("rules:\n- when: [{key: \"request.headers[a\", values: [a]}]", "is no attribute"),
        ("rules:\n- when: [{key: source.ip}]", "values or notValues are needed"),
        ("rules:\n- when: [{key: source.ip, values: [a]}]", "neither an IP address nor a range"),
        ("rules:\n- when: [{values: [a]}]", "key is missing"),
        (
            "action: CUSTOM\nprovider: {name: x}\nrules:\n- from: [{source: {principals: [a]}}]",
            "before principals"
        ),
        (
            "action: CUSTOM\nprovider: {name: x}\nrules:\n- when: [{key: source.principal, values: [a]}]",
            "before source.principal"
        ),
        ("selector: {matchLabels: {app: \"a*\"}}", "wildcards are not possible"),
        (
            "selector: {matchLabels: [app]}",
            "p.yaml:5:27: spec.selector.matchLabels: expected a mapping of strings, got a sequence"
        ),
        (
            "selector: {matchLabels: {a: b}}\ntargetRefs: [{kind: Service, name: x}]",
            "only one of selector, targetRef and targetRefs"
        ),
        ("targetRefs: [{kind: Pod, name: x}]", "a policy targets a Service"),
        ("targetRefs: [{kind: Service, name: x, namespace: y}]", "in the policy's own namespace"),
        ("rulez: []", "unknown field \"rulez\"; did you mean rules?"),
    ]

    @Test(arguments: refused)
    func `refuses what Istio refuses`(row: (spec: String, message: String)) {
        let messages = Self.messages(row.spec)
        #expect(
            messages.contains { $0.contains(row.message) && !$0.contains("warning") },
            "\(row.spec)\n\(messages)")
    }

    static let taken: [String] = [
        "{}", "action: ALLOW", "rules: [{}]", "action: DENY\nrules: [{}]", "action: AUDIT\nrules: [{}]",
        "selector: {matchLabels: {app: web}}\nrules: [{from: [{source: {principals: [\"*\"]}}]}]",
        "rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8, \"::1\"]}}], to: [{operation: {notPorts: [\"80\"]}}]}]",
        "rules: [{when: [{key: \"request.auth.claims[a][b]\", values: [c]}]}]",
        "rules: [{when: [{key: \"experimental.envoy.filters.network.mysql_proxy[db]\", values: [c]}]}]",
        "rules: [{to: [{operation: {paths: [\"/a/{*}/b/{**}\", \"/x*\", \"*y\"]}}]}]",
        "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]\nrules: [{}]",
        "rules: [{from: [{source: {trustDomains: [\"*.example\", other], notTrustDomains: [x]}}]}]",
    ]

    @Test(arguments: taken)
    func `takes what Istio takes`(spec: String) {
        #expect(Self.messages(spec) == [], "\(spec)")
    }

    @Test func `rules that were meant as one are pointed out`() {
        let messages = Self.messages(
            "rules:\n- from: [{source: {namespaces: [a]}}]\n- to: [{operation: {methods: [GET]}}]\n- when: [{key: \"request.headers[authorization]\", values: [\"Bearer *\"]}]"
        )
        #expect(messages.count == 3)
        #expect(
            messages[0].hasPrefix(
                "p.yaml:7:5: warning: spec.rules[1]: this rule has no from and allows any source"))
        #expect(messages[1].hasPrefix("p.yaml:8:5: warning: spec.rules[2]: this rule has no from"))
        #expect(messages[2].contains("this asks that a token is there, not that it is valid"))
    }

    @Test func `keys of conditions are parsed`() {
        #expect(ConditionKey("request.headers[X-Version]") == .requestHeader("x-version"))
        #expect(ConditionKey("request.auth.claims[a][b]") == .requestAuthClaim(["a", "b"]))
        for bad in [
            "request.headers[]", "request.headers[a][b]", "request.auth.claims[a]x[b]",
            "request.auth.claims[a]]", "x", "",
        ] {
            #expect(ConditionKey(bad) == nil, "\(bad)")
        }
    }
}
