import Documents
import Manifests
import Routing
import Testing

/// VirtualService, DestinationRule and the routes of the Gateway API.
struct RouteTests {
    private static func file(_ kind: String, _ version: String, _ spec: String) -> ManifestFile {
        let text = """
            apiVersion: \(version)
            kind: \(kind)
            metadata: {name: r, namespace: shop}
            spec:
            \(spec.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n"))
            """
        return ManifestFile(bytes: Array(text.utf8), file: "r.yaml")
    }

    private static func istio(_ kind: String, _ spec: String) -> ManifestFile {
        file(kind, "networking.istio.io/v1", spec)
    }

    private static func gateway(_ kind: String, _ spec: String) -> ManifestFile {
        file(
            kind, kind == "TCPRoute" ? "gateway.networking.k8s.io/v1alpha2" : "gateway.networking.k8s.io/v1",
            spec)
    }

    private static func virtualService(_ spec: String, warnings: [String] = []) throws -> VirtualService {
        let file = istio("VirtualService", spec)
        #expect(file.problems.map(\.message) == warnings)
        #expect(!file.hasErrors)
        guard case .virtualService(let object)? = file.manifests.first else { throw NotThere() }
        return object
    }

    private struct NotThere: Error {}

    @Test("a VirtualService is read whole (A.2, E.1, E.2)")
    func virtualService() throws {
        let object = try Self.virtualService(
            """
            hosts: [reviews, "*.example.com"]
            gateways: [mesh, infra/front]
            exportTo: ["."]
            http:
            - name: canary
              match:
              - name: first
                uri: {prefix: ""}
                ignoreUriCase: true
                scheme: {exact: http}
                method: {regex: "GET|PUT"}
                authority: {prefix: reviews}
                headers: {End-User: {exact: jason}, x-any: {}, x-star: {regex: "*"}}
                withoutHeaders: {x-no: {prefix: a}}
                queryParams: {Key: {exact: "1"}}
                port: 9080
                sourceLabels: {app: web}
                sourceNamespace: shop
                gateways: [mesh]
                statPrefix: s
              route:
              - destination: {host: reviews, subset: v2, port: {number: 9080}}
                weight: 90
                headers: {response: {remove: [X-A]}}
              - destination: {host: reviews.other.svc.cluster.local}
                weight: 10
              - destination: {host: nothing}
                weight: 0
              rewrite: {uriRegexRewrite: {match: "/(.*)", rewrite: "/v2/\\\\1"}, authority: b}
              timeout: 1m10.5s
              retries: {attempts: 3, perTryTimeout: 250ms, retryOn: "5xx,409", retryRemoteLocalities: true, backoff: 1s}
              fault:
                delay: {fixedDelay: 5s, percentage: {value: 0.5}}
                abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}
              mirrors: [{destination: {host: copy}, percentage: {value: 10}}]
              corsPolicy:
                allowOrigins: [{exact: "https://a"}]
                allowMethods: [GET]
                allowHeaders: [x-a]
                exposeHeaders: [x-b]
                maxAge: 24h
                allowCredentials: true
                unmatchedPreflights: IGNORE
              headers: {request: {set: {X-Set: a}, add: {x-add: b}, remove: [x-c]}}
            - match: [{uri: {exact: /old}}]
              redirect: {uri: /new, authority: b, scheme: https, derivePort: FROM_REQUEST_PORT, redirectCode: 308}
            - match: [{uri: {exact: /no}}]
              directResponse: {status: 503, body: {string: away}}
            - delegate: {name: d, namespace: other}
            tls:
            - match: [{sniHosts: [a.example.com], port: 443, destinationSubnets: [10.0.0.0/8]}]
              route: [{destination: {host: a.example.com}}]
            tcp:
            - match: [{port: 27017, sourceLabels: {app: web}}]
              route: [{destination: {host: mongo}}]
            """,
            warnings: ["not enforced yet: another try goes to whichever endpoint is chosen"])
        #expect(object.hosts == ["reviews", "*.example.com"])
        let rule = try #require(object.http.first)
        let match = try #require(rule.matches.first).match
        #expect(match.path == .prefix(""))
        #expect(
            match.headers == [
                NamedMatch("end-user", .exact("jason")), NamedMatch("x-any", .present),
                NamedMatch("x-star", .present),
            ])
        #expect(match.queryParameters == [NamedMatch("Key", .exact("1"))])
        #expect(match.sourceNamespace == "shop")
        guard case .forward(let destinations) = rule.action else { throw NotThere() }
        #expect(destinations.map(\.weight) == [90, 10])
        #expect(destinations[0].destination == Destination("reviews", port: 9_080, subset: "v2"))
        #expect(rule.timeout == .seconds(70.5))
        #expect(rule.retries?.conditions == [.serverErrors, .statuses])
        #expect(rule.retries?.statuses == [409])
        #expect(rule.fault?.delay?.share.millionths == 5_000)
        #expect(rule.fault?.abort?.failure == .grpc(.unavailable))
        #expect(rule.mirrors == [Mirror(Destination("copy"), share: Fraction(percent: 10))])
        #expect(rule.cors?.maxAge == .seconds(86_400))
        #expect(rule.requestHeaders.set == [.init("x-set", "a")])
        #expect(
            object.http[1].action
                == .redirect(
                    Redirect(
                        status: 308, scheme: "https", authority: "b", path: .full("/new"), port: .request)))
        guard case .delegate(let delegate) = object.http[3].action else { throw NotThere() }
        #expect((delegate.name, delegate.namespace) == ("d", "other"))
        #expect(object.tls.first?.matches.first?.match.serverNames == ["a.example.com"])
        #expect(object.tcp.count == 1)
    }

    private static let to = "route: [{destination: {host: b}}]"

    // What Istio's schema or webhook refuses, and what is said of it. Line 5 is the specification's first.
    static let refused: [(String, String)] = [
        ("hosts: [a]", "spec: at least one of http, tls and tcp is needed"),
        ("hosts: [a, a]\nhttp: [{\(to)}]", "r.yaml:5:10: spec.hosts: every host may be there once"),
        ("hosts: [\"*\"]\nhttp: [{\(to)}]", "spec.hosts: the host * is for gateways only"),
        (
            "hosts: [a]\nhttp: [{}]",
            "spec.http[0]: exactly one of route, redirect, directResponse and delegate"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  timout: 1s",
            "r.yaml:8:5: spec.http[0]: unknown field \"timout\"; did you mean timeout?"
        ),
        ("hosts: [a]\nhttp:\n- \(to)\n  timeout: 10", "spec.http[0].timeout: expected a string"),
        ("hosts: [a]\nhttp:\n- \(to)\n  timeout: 10y", "\"10y\" is no duration"),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  match: [{uri: {regex: \"(\"}}]",
            "spec.http[0].match[0].uri.regex: not a regular expression of RE2: missing )"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  match: [{uri: {exact: a, prefix: b}}]",
            "only one of exact, prefix and regex"
        ),
        ("hosts: [a]\nhttp:\n- \(to)\n  match: [{method: {prefix: \"\"}}]", "must not be empty"),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  match: [{headers: {\":path\": {exact: a}}}]",
            "\":path\" cannot be matched here"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  retries: {attempts: 1, retryOn: 5XX}",
            "\"5XX\" is neither a status nor one of 5xx, gateway-error"
        ),
        (
            "hosts: [a]\nhttp:\n- redirect: {uri: /}\n  fault: {abort: {httpStatus: 500, percentage: {value: 1}}}",
            "fault and redirect cannot be combined"
        ),
        ("hosts: [a]\nhttp: [{redirect: {}}]", "at least one of uri, prefixRewrite, authority"),
        (
            "hosts: [a]\nhttp: [{redirect: {prefixRewrite: /a}}]",
            "prefixRewrite needs matches that all have a uri with prefix"
        ),
        ("hosts: [a]\nhttp: [{directResponse: {status: 100}}]", "100 is not between 200 and 600"),
        (
            "hosts: [a]\nhttp:\n- route: [{destination: {host: b}}, {destination: {host: c}}]",
            "the weights sum up to 0"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  mirror: {host: b}\n  mirrors: [{destination: {host: c}}]",
            "mirror and mirrors cannot be combined"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  fault: {abort: {http2Error: x, percentage: {value: 1}}}",
            "Istio has not implemented this"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  headers: {request: {set: {\":path\": x}}}",
            "\":path\" is no name of a header"
        ),
        (
            "hosts: [a]\nhttp:\n- \(to)\n  rewrite: {uriRegexRewrite: {match: a, rewrite: \"\\\\1\"}}",
            "names a group that the regular expression does not have"
        ),
        (
            "hosts: [a]\ntls:\n- match: [{sniHosts: [b]}]\n  \(to)",
            "\"b\" is not among the hosts of the VirtualService"
        ),
        ("http: [{delegate: {name: x}}]", "cannot delegate itself"),
    ]

    @Test("what Istio refuses is refused, with its place", arguments: refused)
    func refusal(spec: String, message: String) {
        let file = Self.istio("VirtualService", spec)
        #expect(file.manifests.isEmpty)
        #expect(file.problems.contains { $0.description.contains(message) }, "\(file.problems)")
    }

    @Test("rules behind one that takes everything are warned of")
    func unreachable() {
        let file = Self.istio("VirtualService", "hosts: [a]\nhttp:\n- \(Self.to)\n- \(Self.to)")
        #expect(file.manifests.count == 1)
        #expect(
            file.problems.map(\.description) == [
                "r.yaml:8:5: warning: spec.http[1]: this rule is never reached: the one before it takes every request"
            ])
    }

    @Test(
        "a DestinationRule is read whole; outlier fields in the wrong place are said to have no effect (A.3, E.3)"
    )
    func destinationRule() throws {
        let file = Self.istio(
            "DestinationRule",
            """
            host: reviews
            trafficPolicy:
              connectionPool:
                tcp: {maxConnections: 10, connectTimeout: 30s, tcpKeepalive: {probes: 3, time: 1h, interval: 75s}}
                http: {http1MaxPendingRequests: 10, http2MaxRequests: 100, maxRetries: 3, interval: 30s}
              loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 101}}}
              outlierDetection: {consecutive5xxErrors: 5, interval: 30s, baseEjectionTime: 30s, maxEjectionPercent: 50}
              tls: {mode: SIMPLE, sni: a}
              portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]
            subsets:
            - name: v1
              labels: {version: v1}
            """)
        #expect(
            file.problems.map(\.message) == [
                "has no effect: connections through the mesh have the mesh's own keepalive",
                "interval belongs into outlierDetection; here it has no effect",
            ])
        guard case .destinationRule(let rule)? = file.manifests.first else { throw NotThere() }
        #expect(rule.subsets.map(\.labels) == [["version": "v1"]])
        let policy = try #require(rule.trafficPolicy)
        #expect(policy.connectionPool?.maxConnections == 10)
        #expect(
            policy.loadBalancer?.method
                == .hash(.cookie(name: "c", path: nil, lifetime: .zero), .maglev(tableSize: 101)))
        #expect(policy.outlierDetection?.maxEjectionPercent == 50)
        #expect(policy.ports[80]?.loadBalancer?.method == .simple(.random))

        let wrong = Self.istio(
            "DestinationRule", "host: a\ntrafficPolicy: {connectionPool: {tcp: {keepAlive: {time: 1s}}}}")
        #expect(wrong.problems.first?.message.hasPrefix("unknown field \"keepAlive\"") == true)
    }

    @Test(
        "what is taken and not enforced is said to be so, where it stands",
        arguments: [
            (
                "connectionPool: {tcp: {maxConnectionDuration: 1h}}",
                "connectionPool.tcp.maxConnectionDuration"
            ),
            ("connectionPool: {tcp: {idleTimeout: 1h}}", "connectionPool.tcp.idleTimeout"),
            ("connectionPool: {tcp: {tcpKeepalive: {time: 1h}}}", "connectionPool.tcp.tcpKeepalive"),
            ("loadBalancer: {simple: PASSTHROUGH}", "loadBalancer.simple"),
            ("loadBalancer: {warmup: {duration: 10s}}", "loadBalancer.warmup"),
            ("loadBalancer: {warmupDurationSecs: 10s}", "loadBalancer.warmupDurationSecs"),
            ("loadBalancer: {localityLbSetting: {enabled: true}}", "loadBalancer.localityLbSetting"),
            ("retryBudget: {percent: 10}", "retryBudget"),
            ("loadBalancer: {localityLbSetting: {enabled: false}}", nil),
            ("connectionPool: {tcp: {maxConnections: 1}, http: {idleTimeout: 1s}}", nil),
        ])
    func notEnforced(policy: String, place: String?) {
        let file = Self.istio("DestinationRule", "host: a\ntrafficPolicy: {\(policy)}")
        #expect(!file.hasErrors && file.manifests.count == 1)
        #expect(file.problems.map(\.path) == (place.map { ["spec.trafficPolicy.\($0)"] } ?? []))
        #expect(
            file.problems.allSatisfy { problem in
                ["not enforced yet: ", "has no effect: ", "taken for "].contains(
                    where: problem.message.hasPrefix)
            })
    }

    @Test("so is a condition of retries that nothing can fulfil")
    func notEnforcedRetries() {
        let retries = "retries: {attempts: 1, retryOn: 'retriable-headers,5xx'}"
        let file = Self.istio(
            "VirtualService", "hosts: [a]\nhttp:\n- {route: [{destination: {host: a}}], \(retries)}")
        #expect(!file.hasErrors)
        #expect(
            file.problems.map(\.message) == [
                "retriable-headers has no effect: no field says which headers are meant"
            ])
    }

    @Test("an HTTPRoute is read whole (E.4)")
    func httpRoute() throws {
        let file = Self.gateway(
            "HTTPRoute",
            """
            parentRefs: [{group: "", kind: Service, name: reviews, port: 9080}]
            hostnames: [a.example]
            rules:
            - name: r
              matches:
              - path: {value: /foo}
                method: GET
                headers: [{name: X-A, value: a}, {name: x-b, type: RegularExpression, value: "b+"}]
                queryParams: [{name: q, value: "1"}]
              filters:
              - type: RequestHeaderModifier
                requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}
              - type: URLRewrite
                urlRewrite: {hostname: b.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}
              - type: RequestMirror
                requestMirror: {backendRef: {name: copy, port: 80}, fraction: {numerator: 1, denominator: 4}}
              - type: CORS
                cors: {allowOrigins: ["https://*.example.com"]}
              backendRefs: [{name: v1, port: 80, weight: 9}, {name: v2, namespace: other, port: 80}]
              timeouts: {request: 10s, backendRequest: 1s}
              retry: {codes: [503], backoff: 50ms}
            - matches: [{path: {type: Exact, value: /old}}]
              filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
            """)
        #expect(file.problems.map(\.description) == [])
        guard case .httpRoute(let route)? = file.manifests.first else { throw NotThere() }
        #expect(route.parents.first?.isService == true)
        let rule = try #require(route.rules.first)
        #expect(rule.matches.first?.path == .elementPrefix("/foo"))
        #expect(
            rule.matches.first?.headers == [NamedMatch("x-a", .exact("a")), NamedMatch("x-b", .regex("b+"))])
        #expect(rule.filters.rewrite == Rewrite(path: .matchedElements("/x"), authority: "b.example"))
        #expect(rule.filters.mirrors.first?.share.millionths == 250_000)
        #expect(rule.filters.cors?.allowOrigins == [.regex("https://[^/:]+\\.example\\.com")])
        #expect(rule.backends.map(\.weight) == [9, 1])
        #expect(rule.backends.map(\.namespace) == ["shop", "other"])
        #expect(rule.retries?.statuses == [503])
        #expect(rule.retries?.perTryTimeout == .seconds(1))
        #expect(
            route.rules.last?.filters.redirect
                == Redirect(status: 302, scheme: "https", port: .protocolDefault))
    }

    @Test("a GRPCRoute's methods are paths (E.4)")
    func grpcRoute() throws {
        let file = Self.gateway(
            "GRPCRoute",
            """
            rules:
            - matches:
              - method: {service: shop.Cart, method: Add}
              - method: {service: shop.Cart}
              - method: {method: Add}
              - method: {type: RegularExpression, service: "shop\\\\..*"}
              backendRefs: [{name: v1, port: 80}]
            """)
        guard case .grpcRoute(let route)? = file.manifests.first else { throw NotThere() }
        #expect(
            route.rules.first?.matches.map(\.path) == [
                .exact("/shop.Cart/Add"), .elementPrefix("/shop.Cart"), .regex("/[^/]+/Add"),
                .regex("/(?:shop\\..*)/(?:[^/]+)"),
            ])
    }

    @Test("TCPRoute, TLSRoute and ReferenceGrant are read")
    func others() {
        let backends = "rules: [{backendRefs: [{name: v1, port: 80}]}]"
        let tcp = Self.gateway("TCPRoute", backends)
        let tls = Self.gateway("TLSRoute", "hostnames: [a.example]\n\(backends)")
        let grant = Self.gateway(
            "ReferenceGrant",
            "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\nto: [{group: \"\", kind: Service}]"
        )
        for file in [tcp, tls, grant] {
            #expect(file.problems.map(\.description) == [])
            #expect(file.manifests.count == 1)
        }
        #expect(Self.gateway("TCPRoute", "hostnames: [a]\n\(backends)").manifests.isEmpty)
    }

    // Kind, specification, and what is said of it.
    static let refusedRoutes: [(String, String, String)] = [
        (
            "HTTPRoute", "rules: [{matches: [{path: {value: foo}}]}]",
            "spec.rules[0].matches[0].path.value: a path begins with /"
        ),
        (
            "HTTPRoute", "rules: [{backendRefs: [{name: a}]}]",
            "spec.rules[0].backendRefs[0]: a Service needs a port"
        ),
        (
            "HTTPRoute", "rules: [{filters: [{type: ExtensionRef, extensionRef: {}}]}]",
            "no extension is known here"
        ),
        (
            "HTTPRoute", "rules: [{timeouts: {request: 1s, backendRequest: 2s}}]",
            "longer than the timeout of the whole request"
        ),
        (
            "HTTPRoute",
            "rules: [{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}]",
            "ReplacePrefixMatch needs matches"
        ),
        ("GRPCRoute", "rules: [{matches: [{method: {}}]}]", "at least one of service and method is needed"),
        ("GRPCRoute", "rules: [{timeouts: {}}]", "unknown field \"timeouts\""),
        ("ReferenceGrant", "from: []\nto: [{kind: Service}]", "at least one is needed"),
    ]

    @Test("what the Gateway API refuses is refused, with its place", arguments: refusedRoutes)
    func refusalOfRoutes(kind: String, spec: String, message: String) {
        let file = Self.gateway(kind, spec)
        #expect(file.manifests.isEmpty)
        #expect(file.problems.contains { $0.description.contains(message) }, "\(file.problems)")
    }
}
