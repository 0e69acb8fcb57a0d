import Compiler
import Mesh
import Routing
import Testing

/// A namespace with a waypoint, and services `a`, `b` and `c` behind it.
func mesh(
    _ texts: String..., namespaces: String = "", ports: String = "[{name: http, port: 80}]",
    use: String = "istio.io/use-waypoint: wp", from: String = "Same", annotations: String = ""
) -> MeshResources {
    let services = ["a", "b", "c"].enumerated().map { number, name in
        "apiVersion: v1\nkind: Service\nmetadata: {name: \(name), namespace: shop, annotations: {\(annotations)}}\nspec: {clusterIP: 10.1.0.\(number + 1), selector: {app: \(name)}, ports: \(ports)}"
    }
    let pods = ["a", "b", "c"].enumerated().map { number, name in
        pod("\(name)-v1", "10.0.0.\(number + 1)", labels: "app: \(name), version: v1")
    }
    return compileYAML(
        ([
            namespace("shop", use), WaypointTests.gateway(from: from),
        ] + services + pods + texts).joined(separator: "\n---\n"))
}

func virtualService(
    _ spec: String, name: String = "v", in namespace: String = "shop", created: String = ""
) -> String {
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: \(name), namespace: \(namespace), creationTimestamp: \"\(created)\"}\nspec: {\(spec)}"
}

func destinationRule(
    _ spec: String, name: String = "d", in namespace: String = "shop", created: String = ""
) -> String {
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: \(name), namespace: \(namespace), creationTimestamp: \"\(created)\"}\nspec: {\(spec)}"
}

func httpRoute(
    _ spec: String, name: String = "r", in namespace: String = "shop", created: String = "",
    kind: String = "HTTPRoute", parent: String = "{kind: Service, group: '', name: a, namespace: shop}"
) -> String {
    let version = kind == "TCPRoute" || kind == "TLSRoute" ? "v1alpha2" : "v1"
    return
        "apiVersion: gateway.networking.k8s.io/\(version)\nkind: \(kind)\nmetadata: {name: \(name), namespace: \(namespace), creationTimestamp: \"\(created)\"}\nspec: {parentRefs: [\(parent)], \(spec)}"
}

func to(_ host: String, _ more: String = "") -> String {
    "route: [{destination: {host: \(host)}}]\(more.isEmpty ? "" : ", ")\(more)"
}

extension MeshResources {
    /// What the waypoint runs on for service `a`.
    func a() throws -> WaypointService { try #require(waypointService("shop/wp", "a")) }

    /// Warnings that say something of `text`.
    func warnings(_ text: String) -> [String] { warnings.map(\.message).filter { $0.contains(text) } }
}

@Suite("VirtualServices at a waypoint")
struct VirtualServiceRouteTests {
    @Test("without a rule everything goes to the service itself, with the default retries (E.2)")
    func byDefault() throws {
        let result = mesh()
        let forwarding = try #require(try result.a().forwarding(port: 80))
        #expect(
            forwarding == Forwarding([WeightedDestination(Destination("a.shop.svc.cluster.local", port: 80))])
        )
        #expect(forwarding.retries == nil)
        #expect(result.waypointServices[name("shop/wp")]?.count == 3)
        #expect(try result.a().ports[80]?.virtualHosts.map(\.domains) == [["*"]])
        #expect(result.warnings == [])
    }

    @Test("a service that no waypoint serves has none of this, and rules for it say so")
    func withoutWaypoint() {
        let result = mesh(
            virtualService("hosts: [a], http: [{\(to("b"))}]"), destinationRule("host: a"),
            httpRoute("rules: [{backendRefs: [{name: b, port: 80}]}]"), use: "")
        #expect(result.waypointServices == [:])
        let advice =
            "no waypoint serves a.shop.svc.cluster.local; label Service shop/a, or Namespace shop, with istio.io/use-waypoint and the name of a Gateway of class warren-waypoint"
        #expect(
            Set(result.warnings("no effect")) == [
                "VirtualService shop/v has no effect: \(advice)",
                "DestinationRule shop/d has no effect: \(advice)",
                "HTTPRoute shop/r has no effect: \(advice)",
            ])
    }

    @Test(
        "a VirtualService for the mesh counts, one for other gateways only is none of the waypoint's, and says nothing"
    )
    func gateways() throws {
        let bound = mesh(virtualService("hosts: [a], gateways: [in], http: [{\(to("b"))}]"))
        #expect(try bound.a().text() == "a")
        #expect(bound.warnings == [])
        let both = mesh(
            virtualService(
                "hosts: [a], gateways: [in, mesh], http: [{match: [{gateways: [in]}], \(to("c"))}, {\(to("b"))}]"
            ))
        #expect(try both.a().text() == "b")
    }

    @Test("short names are those of the object's namespace; names with a dot are full ones (A.2)")
    func names() throws {
        #expect(try mesh(virtualService("hosts: [a], http: [{\(to("b"))}]")).a().text() == "b")
        #expect(
            try mesh(
                virtualService(
                    "hosts: [a.shop.svc.cluster.local], http: [{\(to("b.shop.svc.cluster.local"))}]")
            ).a()
                .text() == "b")
        let unknown = mesh(virtualService("hosts: [a.shop], http: [{\(to("nobody"))}]"))
        #expect(try unknown.a().text() == "a")
        #expect(
            unknown.warnings.map(\.message) == [
                "VirtualService shop/v has no effect for a.shop, which is no Service and no ServiceEntry"
            ])
    }

    @Test("the exact host comes before the longest wildcard, and that before shorter ones")
    func hostOrder() throws {
        let result = mesh(
            virtualService(
                "hosts: ['*.cluster.local'], http: [{match: [{uri: {prefix: /1}}, {uri: {prefix: /2}}, {uri: {prefix: /3}}], \(to("c"))}]",
                name: "short", created: "2026-01-01T00:00:00Z"),
            virtualService(
                "hosts: ['*.shop.svc.cluster.local'], http: [{match: [{uri: {prefix: /1}}, {uri: {prefix: /2}}], \(to("b"))}]",
                name: "long", created: "2026-01-02T00:00:00Z"),
            virtualService(
                "hosts: [a], http: [{match: [{uri: {prefix: /1}}], \(to("a"))}]", name: "exact",
                created: "2026-01-03T00:00:00Z"))
        let service = try result.a()
        #expect(try ["/1", "/2", "/3", "/4"].map { try service.text($0) } == ["a", "b", "c", "404"])
    }

    @Test(
        "of several for one host the oldest comes first; where it takes everything the others have no effect")
    func conflict() throws {
        let closed = mesh(
            virtualService("hosts: [a], http: [{\(to("b"))}]", name: "new", created: "2026-01-02T00:00:00Z"),
            virtualService("hosts: [a], http: [{\(to("c"))}]", name: "old", created: "2026-01-01T00:00:00Z"))
        #expect(try closed.a().text() == "c")
        #expect(
            closed.warnings("VirtualService shop/new").first?.hasPrefix(
                "VirtualService shop/new: its http rules have no effect for a.shop.svc.cluster.local: the older VirtualService shop/old at m.yaml:"
            )
                == true)
        let merged = mesh(
            virtualService("hosts: [a], http: [{\(to("b"))}]", name: "new", created: "2026-01-02T00:00:00Z"),
            virtualService(
                "hosts: [a], http: [{match: [{uri: {exact: /x}}], \(to("c"))}]", name: "old",
                created: "2026-01-01T00:00:00Z"))
        #expect(try merged.a().text("/x") == "c")
        #expect(try merged.a().text("/y") == "b")
        #expect(merged.warnings("come after those of the older VirtualService shop/old").count == 1)
    }

    @Test(
        "only those of the service's namespace and of the waypoint's count, and exportTo has to let them (B.9)"
    )
    func namespaces() throws {
        let other = mesh(
            virtualService(
                "hosts: [a.shop.svc.cluster.local], http: [{\(to("b.shop.svc.cluster.local"))}]", in: "far"),
            namespace("far", ""))
        #expect(try other.a().text() == "a")
        #expect(
            other.warnings.map(\.message) == [
                "VirtualService far/v has no effect for a.shop.svc.cluster.local: its waypoint shop/wp goes by VirtualServices of namespace shop only"
            ])
        let hidden = mesh(virtualService("hosts: [a], exportTo: [far], http: [{\(to("b"))}]"))
        #expect(try hidden.a().text() == "a")
        #expect(
            hidden.warnings("its exportTo leaves out namespace shop, where the waypoint shop/wp is").count
                == 1)
        #expect(
            try mesh(virtualService("hosts: [a], exportTo: ['.'], http: [{\(to("b"))}]")).a().text() == "b")
    }

    @Test(
        "a match by sourceLabels is left out, and with all of its matches the rule; the client's namespace can be matched (A.2)"
    )
    func sources() throws {
        let result = mesh(
            virtualService(
                "hosts: [a], http: [{match: [{sourceLabels: {app: x}}], \(to("b"))}, {match: [{sourceNamespace: client}], \(to("c"))}]"
            ))
        #expect(try result.a().text(from: "client") == "c")
        #expect(try result.a().text(from: "other") == "404")
        #expect(result.warnings("sourceLabels are not known at a waypoint").count == 1)
    }

    @Test("a port is that of the destination, its only one, or that to which the request came (A.2)")
    func ports() throws {
        let two = "[{name: http, port: 80}, {name: http-b, port: 81}]"
        let result = mesh(
            virtualService(
                "hosts: [a], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: b, port: {number: 81}}}]}, {\(to("b"))}]"
            ),
            ports: two)
        func port(_ path: String, _ at: UInt16) throws -> String? {
            try result.a().forwarding(port: at, path)?.destinations.first?.text
        }
        #expect(try port("/x", 80) == "b.shop.svc.cluster.local:81 0")
        #expect(try port("/", 80) == "b.shop.svc.cluster.local:80 0")
        #expect(try port("/", 81) == "b.shop.svc.cluster.local:81 0")
        #expect(
            mesh(virtualService("hosts: [a], http: [{route: [{destination: {host: b, port: {number: 9}}}]}]"))
                .warnings("has no port 9: requests for it are answered 503").count == 1)
    }

    @Test("match.port is left to the match")
    func matchedPort() throws {
        let result = mesh(
            virtualService("hosts: [a], http: [{match: [{port: 81}], \(to("b"))}, {\(to("c"))}]"),
            ports: "[{name: http, port: 80}, {name: http-b, port: 81}]")
        #expect(try result.a().text(port: 80) == "c")
        #expect(try result.a().text(port: 81) == "b")
    }

    @Test("an unknown destination and an unknown subset are answered 503, which is said (A.2)")
    func unknownDestinations() throws {
        let result = mesh(
            virtualService(
                "hosts: [a], http: [{match: [{uri: {prefix: /x}}], \(to("gone"))}, {route: [{destination: {host: b, subset: v9}}]}]"
            ))
        let compiled = try CompiledWaypointService(result.a())
        #expect(compiled.traffic(to: Destination("gone.shop.svc.cluster.local")) == nil)
        #expect(compiled.traffic(to: Destination("b.shop.svc.cluster.local", subset: "v9")) == nil)
        #expect(compiled.traffic(to: Destination("b.shop.svc.cluster.local")) == TrafficPolicy())
        #expect(
            Set(result.warnings.map(\.message)) == [
                "the destination gone.shop.svc.cluster.local is no Service and no ServiceEntry: requests for it are answered 503",
                "no DestinationRule for b.shop.svc.cluster.local that the waypoint shop/wp goes by declares the subset \"v9\": requests for it are answered 503",
            ])
        #expect(result.warnings.allSatisfy { $0.position.line > 1 && $0.position.file == "m.yaml" })
    }

    @Test(
        "`:authority` and `Host` among the headers to set rewrite the authority (E.2)",
        arguments: ["':authority'", "Host"])
    func authority(key: String) throws {
        let route = mesh(
            virtualService(
                "hosts: [a], http: [{\(to("b", "headers: {request: {set: {\(key): x.example, m: v}}}"))}]"))
        let found = try #require(try route.a().route(port: 80))
        #expect(found.requestHeaders.set == [.init("m", "v")])
        guard case .forward(let forwarding) = found.action else { throw Unexpected() }
        #expect(forwarding.rewrite == Rewrite(authority: "x.example"))
        let single = mesh(
            virtualService(
                "hosts: [a], http: [{route: [{destination: {host: b}, headers: {request: {set: {\(key): y.example}}}}]}]"
            ))
        #expect(try single.a().forwarding(port: 80)?.rewrite == Rewrite(authority: "y.example"))
        let several = mesh(
            virtualService(
                "hosts: [a], http: [{route: [{destination: {host: b}, weight: 1, headers: {request: {set: {\(key): y.example}}}}, {destination: {host: c}, weight: 1}]}]"
            ))
        let destinations = try several.a().forwarding(port: 80)?.destinations
        #expect(destinations?.map(\.authority) == ["y.example", nil])
        #expect(destinations?.first?.requestHeaders.isEmpty == true)
    }

    struct Unexpected: Error {}

    @Test(
        "redirects, answers, rewrites, faults, mirrors, CORS and header operations come over as they are (E.2)"
    )
    func actions() throws {
        let service = try mesh(
            virtualService(
                """
                hosts: [a], http: [
                {match: [{uri: {exact: /r}}], redirect: {uri: /n, redirectCode: 308}},
                {match: [{uri: {exact: /d}}], directResponse: {status: 418, body: {string: tea}}},
                {match: [{uri: {prefix: /w}}], rewrite: {uri: /x, authority: z.example}, \(to("b")),
                 fault: {abort: {httpStatus: 503, percentage: {value: 50}}, delay: {fixedDelay: 1s, percentage: {value: 1}}},
                 mirrors: [{destination: {host: c}, percentage: {value: 10}}], timeout: 3s,
                 corsPolicy: {allowOrigins: [{exact: 'https://o.example'}], unmatchedPreflights: IGNORE},
                 headers: {request: {remove: [x-a]}, response: {add: {x-b: c}}}}]
                """)
        ).a()
        #expect(try service.text("/r") == "redirect 308")
        #expect(try service.text("/d") == "418")
        #expect(try service.text("/other") == "404")
        let route = try #require(try service.route(port: 80, "/w/1"))
        #expect(route.cors?.forwardsUnmatchedPreflights == false)
        #expect(route.requestHeaders.remove == ["x-a"])
        #expect(route.responseHeaders.add == [.init("x-b", "c")])
        guard case .forward(let forwarding) = route.action else { throw Unexpected() }
        #expect(forwarding.rewrite == Rewrite(path: .matched("/x"), authority: "z.example"))
        #expect(forwarding.timeout == .seconds(3))
        #expect(forwarding.fault?.abort?.share == Fraction(percent: 50))
        #expect(forwarding.fault?.delay?.duration == .seconds(1))
        #expect(
            forwarding.mirrors == [
                Mirror(Destination("c.shop.svc.cluster.local", port: 80), share: Fraction(percent: 10))
            ])
    }

    @Test("connections are routed by tls rules, then by tcp rules, and else to the service (E.2)")
    func streams() throws {
        let service = try mesh(
            virtualService(
                "hosts: [a.shop.svc.cluster.local], tls: [{match: [{sniHosts: [a.shop.svc.cluster.local], port: 80}], \(to("b"))}], tcp: [{match: [{port: 81}], route: [{destination: {host: b}, weight: 1}, {destination: {host: c}, weight: 3}]}]"
            ),
            ports: "[{name: tls-a, port: 80}, {name: tcp-a, port: 81}]"
        ).a()
        let compiled = try CompiledWaypointService(service)
        func target(_ port: UInt16, _ serverName: String?) throws -> [String]? {
            let table = try #require(compiled.streams(port: port))
            let found = table.route(serverName: serverName, destination: nil, from: RequestOrigin(port: port))
            return found.map { table.routes[$0].destinations.map(\.text) }
        }
        #expect(try target(80, "a.shop.svc.cluster.local") == ["b.shop.svc.cluster.local:80 0"])
        #expect(try target(80, "other.example") == ["a.shop.svc.cluster.local:80 1"])
        #expect(try target(81, nil) == ["b.shop.svc.cluster.local:81 1", "c.shop.svc.cluster.local:81 3"])
        #expect(compiled.table(port: 80) == nil)
    }

    @Test(
        "a port whose protocol is unknown has routes of both kinds, others of their own (issue: waypoint, 1)")
    func protocols() throws {
        let service = try mesh(
            ports:
                "[{name: http, port: 80}, {name: http2-x, port: 81}, {name: grpc, port: 82}, {name: tcp, port: 83}, {name: tls, port: 84}, {name: x, port: 85}]"
        ).a()
        let kinds = service.ports.sorted { $0.key < $1.key }.map { _, port in
            "\(port.appProtocol) \(port.virtualHosts.count) \(port.streams.count)"
        }
        #expect(kinds == ["http11 1 0", "http2 1 0", "grpc 1 0", "tcp 0 1", "tls 0 1", "unknown 1 1"])
    }
}

@Suite("Delegates")
struct DelegateTests {
    private func text(_ root: String, _ inner: String, _ path: String, headers: [(String, String)] = [])
        throws -> String
    {
        try mesh(
            virtualService("hosts: [a], http: [{\(root), delegate: {name: inner}}, {\(to("c"))}]"),
            virtualService("http: [\(inner)]", name: "inner")
        ).a().text(path, headers: headers)
    }

    @Test("the rules of the delegate are within the match of the root (E.2)")
    func within() throws {
        let root = "match: [{uri: {prefix: /x}}]"
        let inner = "{match: [{uri: {prefix: /x/1}}], \(to("b"))}, {\(to("a"))}"
        #expect(try text(root, inner, "/x/1") == "b")
        #expect(try text(root, inner, "/x/2") == "a")
        #expect(try text(root, inner, "/y") == "c")
    }

    @Test("headers of both have to hold")
    func headers() throws {
        let root = "match: [{headers: {u: {exact: '1'}}}]"
        let inner = "{match: [{headers: {v: {exact: '2'}}}], \(to("b"))}"
        #expect(try text(root, inner, "/", headers: [("u", "1"), ("v", "2")]) == "b")
        #expect(try text(root, inner, "/", headers: [("u", "1")]) == "c")
        #expect(try text(root, inner, "/", headers: [("v", "2")]) == "c")
    }

    @Test("a rule that takes what was not delegated is left out, with a warning")
    func outside() throws {
        let result = mesh(
            virtualService(
                "hosts: [a], http: [{match: [{uri: {prefix: /x}}], delegate: {name: inner}}, {\(to("c"))}]"),
            virtualService("http: [{match: [{uri: {prefix: /y}}], \(to("b"))}]", name: "inner"))
        #expect(try result.a().text("/y") == "c")
        #expect(result.warnings("lies outside of what the rule at m.yaml:").count == 1)
    }

    @Test("what the delegate leaves open is the root's")
    func inheritance() throws {
        let result = mesh(
            virtualService(
                "hosts: [a], http: [{name: r, timeout: 1s, delegate: {name: inner}, retries: {attempts: 1}}]"),
            virtualService("http: [{name: i, \(to("b")), timeout: 2s}]", name: "inner"))
        let route = try #require(try result.a().route(port: 80))
        #expect(route.name == .init(object: "VirtualService shop/v", rule: "r-i", index: 0))
        let forwarding = try #require(try result.a().forwarding(port: 80))
        #expect(forwarding.timeout == .seconds(2))
        #expect(forwarding.retries?.attempts == 1)
    }

    @Test(
        "a delegate that is not there, has hosts, or is not exported leaves its rule out",
        arguments: [
            ("", "VirtualService shop/inner does not exist"),
            ("hosts: [b], ", "VirtualService shop/inner has hosts of its own, and cannot be delegated to"),
            ("exportTo: [far], ", "VirtualService shop/inner is not exported to namespace shop"),
        ])
    func missing(spec: String, warning: String) throws {
        let root = virtualService(
            "hosts: [a], http: [{match: [{uri: {prefix: /}}], delegate: {name: inner}}, {\(to("c"))}]")
        let result =
            spec.isEmpty
            ? mesh(root) : mesh(root, virtualService("\(spec)http: [{\(to("b"))}]", name: "inner"))
        #expect(try result.a().text() == "c")
        #expect(result.warnings(warning) == ["\(warning): the rule that delegates to it is left out"])
    }

    @Test("short names are those of the delegate's namespace")
    func names() throws {
        let result = mesh(
            virtualService("hosts: [a], http: [{delegate: {name: inner, namespace: far}}]"),
            virtualService("http: [{\(to("x"))}]", name: "inner", in: "far"), namespace("far", ""),
            "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: far}\nspec: {clusterIP: 10.1.0.9, ports: [{port: 80}]}"
        )
        #expect(
            try result.a().forwarding(port: 80)?.destinations.map(\.text) == ["x.far.svc.cluster.local:80 0"])
    }
}

@Suite("Routes of the Gateway API at a waypoint")
struct GatewayRouteTests {
    static func rule(_ match: String, _ backend: String) -> String {
        "{matches: [{\(match)}], backendRefs: [{name: \(backend), port: 80}]}"
    }

    @Test("exact paths, then the longest prefix, then regular expressions (E.4)")
    func paths() throws {
        let service = try mesh(
            httpRoute(
                "rules: [\(Self.rule("path: {value: /}", "c")), \(Self.rule("path: {value: /x}", "b")), \(Self.rule("path: {type: RegularExpression, value: '/.*'}", "c")), \(Self.rule("path: {type: Exact, value: /x/1}", "a"))]"
            )
        ).a()
        #expect(try ["/x/1", "/x/2", "/xy"].map { try service.text($0) } == ["a", "b", "c"])
    }

    @Test("then a method, then more headers, then more query parameters (E.4)")
    func conditions() throws {
        let service = try mesh(
            httpRoute(
                "rules: [\(Self.rule("queryParams: [{name: q, value: '1'}]", "c")), \(Self.rule("headers: [{name: h, value: '1'}]", "b")), \(Self.rule("method: POST", "a"))]"
            )
        ).a()
        #expect(try service.text("/?q=1", method: "POST", headers: [("h", "1")]) == "a")
        #expect(try service.text("/?q=1", headers: [("h", "1")]) == "b")
        #expect(try service.text("/?q=1") == "c")
        #expect(try service.text("/") == "404")
    }

    @Test("then the oldest route, then the first by name, then the first rule (E.4)")
    func age() throws {
        func route(_ name: String, _ created: String, _ backend: String) -> String {
            httpRoute("rules: [{backendRefs: [{name: \(backend), port: 80}]}]", name: name, created: created)
        }
        #expect(
            try mesh(route("x", "2026-01-02T00:00:00Z", "b"), route("z", "2026-01-01T00:00:00Z", "c")).a()
                .text() == "c")
        #expect(try mesh(route("z", "", "b"), route("x", "", "c")).a().text() == "c")
        #expect(
            try mesh(
                httpRoute(
                    "rules: [\(Self.rule("path: {value: /}", "b")), \(Self.rule("path: {value: /}", "c"))]")
            ).a()
                .text() == "b")
    }

    @Test("a parent's port and section take one port only")
    func parentPorts() throws {
        let ports = "[{name: http, port: 80}, {name: http-b, port: 81}]"
        for section in ["port: 81", "sectionName: http-b"] {
            let service = try mesh(
                httpRoute(
                    "rules: [{backendRefs: [{name: b, port: 80}]}]",
                    parent: "{kind: Service, group: '', name: a, \(section)}"), ports: ports
            ).a()
            #expect(try service.text(port: 80) == "a")
            #expect(try service.text(port: 81) == "b")
        }
        let wrong = mesh(
            httpRoute(
                "rules: [{backendRefs: [{name: b, port: 80}]}]",
                parent: "{kind: Service, group: '', name: a, port: 9}"))
        #expect(
            wrong.warnings.map(\.message) == [
                "HTTPRoute shop/r is not attached: a.shop.svc.cluster.local has no port 9"
            ])
    }

    @Test("backends in shares; what leads nowhere is answered 500 for its share (E.4)")
    func backends() throws {
        let result = mesh(
            httpRoute(
                "rules: [{backendRefs: [{name: b, port: 80, weight: 9}, {name: gone, port: 80}, {name: c, port: 9}, {kind: Bucket, group: x.example, name: c}]}]"
            ))
        let destinations = try #require(try result.a().forwarding(port: 80)?.destinations)
        #expect(
            destinations.map(\.text) == [
                "b.shop.svc.cluster.local:80 9",
                "unresolved: gone.shop.svc.cluster.local does not exist (BackendNotFound)",
                "unresolved: c.shop.svc.cluster.local has no port 9 (BackendNotFound)",
                "unresolved: Bucket of group \"x.example\" is no kind of backend here (InvalidKind)",
            ])
        #expect(result.warnings("its share of the requests is answered 500").count == 3)
        #expect(try mesh(httpRoute("rules: [{}]")).a().text() == "500")
    }

    @Test("a backend of another namespace needs a ReferenceGrant there (Gateway API)")
    func grants() throws {
        func result(_ grant: String?) -> MeshResources {
            let far = documents(
                namespace("far", ""),
                "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: far}\nspec: {clusterIP: 10.1.0.9, ports: [{port: 80}]}"
            )
            let route = httpRoute("rules: [{backendRefs: [{name: x, namespace: far, port: 80}]}]")
            guard let grant else { return mesh(route, far) }
            return mesh(
                route, far,
                "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: far}\nspec: {\(grant)}"
            )
        }
        let from = "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]"
        #expect(try result(nil).a().text() == "500")
        #expect(
            result(nil).warnings("RefNotPermitted").first?.contains(
                "no ReferenceGrant of namespace far lets a HTTPRoute of namespace shop name it") == true)
        #expect(try result("\(from), to: [{kind: Service}]").a().text() == "x")
        #expect(try result("\(from), to: [{kind: Service, name: x}]").a().text() == "x")
        #expect(try result("\(from), to: [{kind: Service, name: z}]").a().text() == "500")
        #expect(try result("\(from), to: [{kind: Secret}]").a().text() == "500")
        #expect(
            try result(
                "from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}], to: [{kind: Service}]"
            )
            .a().text() == "500")
    }

    @Test(
        "a route of another namespace is for the requests of that namespace, and there in place of the producer's (GAMMA)"
    )
    func consumers() throws {
        let far = documents(
            namespace("far", ""),
            "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: far}\nspec: {clusterIP: 10.1.0.9, ports: [{port: 80}]}"
        )
        let consumer = httpRoute(
            "rules: [\(Self.rule("path: {value: /x}", "x"))]", in: "far")
        let alone = try mesh(far, consumer).a()
        #expect(try alone.text("/x", from: "far") == "x")
        #expect(try alone.text("/y", from: "far") == "404")
        #expect(try alone.text("/x", from: "shop") == "a")
        let both = try mesh(far, consumer, httpRoute("rules: [{backendRefs: [{name: b, port: 80}]}]")).a()
        #expect(try both.text("/x", from: "far") == "x")
        #expect(try both.text("/y", from: "far") == "404")
        #expect(try both.text("/x", from: "shop") == "b")
    }

    @Test("routes of the Gateway API take the place of a VirtualService's (B.9)")
    func beforeVirtualServices() throws {
        let result = mesh(
            httpRoute("rules: [{backendRefs: [{name: b, port: 80}]}]"),
            virtualService("hosts: [a], http: [{\(to("c"))}]"))
        #expect(try result.a().text() == "b")
        #expect(
            result.warnings.map(\.message) == [
                "VirtualService shop/v: its http rules have no effect for a.shop.svc.cluster.local: the routes of the Gateway API that are attached to it take their place"
            ])
    }

    @Test("filters, timeouts and retries (E.4)")
    func filters() throws {
        let service = try mesh(
            httpRoute(
                """
                rules: [{matches: [{path: {value: /r}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: n.example}}]},
                 {filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}]}},
                   {type: URLRewrite, urlRewrite: {hostname: w.example}},
                   {type: RequestMirror, requestMirror: {backendRef: {name: c, port: 80}, percent: 10}}],
                  timeouts: {request: 5s, backendRequest: 2s}, backendRefs: [{name: b, port: 80}]}]
                """)
        ).a()
        #expect(try service.text("/r") == "redirect 302")
        let route = try #require(try service.route(port: 80))
        #expect(route.requestHeaders.set == [.init("x-a", "b")])
        let forwarding = try #require(try service.forwarding(port: 80))
        #expect(forwarding.rewrite?.authority == "w.example")
        #expect(forwarding.timeout == .seconds(5))
        #expect(forwarding.retries?.perTryTimeout == .seconds(2))
        #expect(forwarding.retries?.attempts == RetryPolicy.meshDefault.attempts)
        #expect(forwarding.mirrors.map(\.share) == [Fraction(percent: 10)])
    }

    @Test("a call of gRPC is a request for /service/method (E.4)")
    func grpc() throws {
        let service = try mesh(
            httpRoute(
                "rules: [{matches: [{method: {service: s.S, method: M}}], backendRefs: [{name: b, port: 80}]}, {backendRefs: [{name: c, port: 80}]}]",
                kind: "GRPCRoute"), ports: "[{name: grpc, port: 80}]"
        ).a()
        #expect(try service.text("/s.S/M", method: "POST") == "b")
        #expect(try service.text("/s.S/N", method: "POST") == "c")
    }

    @Test("TLSRoutes by server name, TCPRoutes for the rest; the oldest first (E.4)")
    func streams() throws {
        let service = try mesh(
            httpRoute(
                "rules: [{backendRefs: [{name: b, port: 80}]}]", name: "t", created: "2026-01-02T00:00:00Z",
                kind: "TCPRoute"),
            httpRoute(
                "hostnames: [x.example], rules: [{backendRefs: [{name: c, port: 80}]}]", name: "s",
                created: "2026-01-01T00:00:00Z", kind: "TLSRoute"),
            ports: "[{name: tls, port: 80}]"
        ).a()
        let table = try #require(try CompiledWaypointService(service).streams(port: 80))
        func target(_ name: String?) -> String? {
            table.route(serverName: name, destination: nil, from: RequestOrigin(port: 80)).map {
                table.routes[$0].destinations.map(\.short).joined(separator: " ")
            }
        }
        #expect(target("x.example") == "c")
        #expect(target("y.example") == "b")
        #expect(target(nil) == "b")
    }

    @Test("what cannot be attached says why")
    func unattached() {
        let result = mesh(
            httpRoute(
                "rules: [{backendRefs: [{name: b, port: 80}]}]", name: "nobody",
                parent: "{kind: Service, group: '', name: gone}"),
            httpRoute("rules: [{backendRefs: [{name: b, port: 80}]}]", name: "none", parent: ""),
            httpRoute(
                "rules: [{backendRefs: [{name: b, port: 80}]}]", name: "tcp",
                parent: "{kind: Service, group: '', name: a, port: 81}"),
            httpRoute(
                "hostnames: [h.example], rules: [{backendRefs: [{name: b, port: 80}]}]", name: "names",
                parent: "{kind: Service, group: '', name: c}"),
            httpRoute("rules: [{backendRefs: [{name: b, port: 80}]}]", name: "in", parent: "{name: ingress}"),
            ports: "[{name: http, port: 80}, {name: tcp, port: 81}]")
        #expect(
            Set(result.warnings.map(\.message)) == [
                "HTTPRoute shop/nobody is not attached: Service shop/gone does not exist",
                "HTTPRoute shop/none has no effect: it has no parentRefs; name the Service that its requests are for",
                "HTTPRoute shop/tcp has no effect: port 81 of a.shop.svc.cluster.local is one of plain connections; name it http-…, http2-… or grpc-…, or set its appProtocol",
                "HTTPRoute shop/names: its hostnames are not looked at: the parent c.shop.svc.cluster.local says whose requests it is for",
            ])
    }
}
