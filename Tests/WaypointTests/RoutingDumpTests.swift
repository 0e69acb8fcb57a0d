import Address
import Documents
import Mesh
import Routing
import Telemetry
import Testing

@testable import Waypoint

/// What `/config_dump` says of routes and destinations: `warren config` and people's scripts read these names.
struct RoutingDumpTests {
    private static let key = NamespacedName(namespace: "shop", name: "web.shop")

    /// Two endpoints of the labels v1 and v2, and a service whose only host is itself.
    private func snapshot() -> Snapshot {
        var builder = SnapshotBuilder(node: "")
        for (name, address) in [("wp", "10.0.0.9"), ("one", "10.0.0.1"), ("two", "10.0.0.2")] {
            builder.insert(
                Workload(
                    uid: "c//Pod/shop/\(name)", name: name, namespace: "shop",
                    addresses: [IPAddress(address) ?? .anyIPv4],
                    services: name == "wp" ? [:] : [Self.key: [80: 8080]]))
        }
        builder.insert(
            Service(
                name: "web", namespace: "shop", hostname: "web.shop",
                ports: [.init(servicePort: 80, targetPort: 8080, appProtocol: .http11)]))
        return builder.snapshot()
    }

    private func dump(_ services: WaypointService..., in snapshot: Snapshot) throws -> Value {
        var compiled: [NamespacedName: CompiledWaypointService] = [:]
        for service in services { compiled[service.key] = try CompiledWaypointService(service) }
        var json = JSONWriter(pretty: true)
        json.object { $0.routing(compiled, snapshot, own: snapshot.workload(uid: "c//Pod/shop/wp")) }
        return Value(try Node(json: json.bytes, file: "dump"))
    }

    private func first(_ value: Value?, _ path: String...) -> Value? {
        var found = value
        for key in path {
            found = found?[key]
            if case .list(let elements)? = found { found = elements.first }
        }
        return found
    }

    @Test func `a route has its name, its matches and its action, in words and in fields`() throws {
        var match = RequestMatch(path: .prefix("/a"), headers: [NamedMatch("x-canary", .exact("yes"))])
        match.method = .exact("GET")
        var forwarding = Forwarding([
            WeightedDestination(Destination("web.shop", subset: "v1"), weight: 80),
            WeightedDestination(Destination("web.shop", port: 80), weight: 20),
        ])
        forwarding.timeout = .milliseconds(1_500)
        forwarding.retries = RetryPolicy(attempts: 3)
        forwarding.fault = Fault(abort: .init(.http(418), share: Fraction(percent: 12.5)))
        let name = Route.Name(object: "VirtualService shop/web", rule: "canary", index: 0)
        let service = WaypointService(
            Self.key,
            ports: [
                80: .init(
                    .http11,
                    virtualHosts: [
                        VirtualHost(
                            "web", routes: [Route(name, matches: [match], action: .forward(forwarding))])
                    ])
            ])
        let dump = try dump(service, in: snapshot())
        let port = first(dump, "routes")
        #expect(port?["namespace"] == "shop" && port?["service"] == "web.shop" && port?["port"] == 80)
        #expect(port?["protocol"] == "http" && port?["streams"] == [])
        let route = first(port, "virtualHosts", "routes")
        #expect(route?["name"] == "VirtualService shop/web rule 0 (canary)")
        #expect(route?["object"] == "VirtualService shop/web" && route?["rule"] == "canary")
        let written = first(route, "matches")
        #expect(written?["text"] == "path starts with /a and method is GET and header x-canary is yes")
        #expect(first(written, "path", "prefix") == "/a" && first(written, "headers", "exact") == "yes")
        let action = route?["action"]
        #expect(
            action?["text"]
                == "web.shop subset v1 (80 of 100), web.shop:80 (20 of 100); timeout 1500ms; 3 retries; abort 418 for 12.5%"
        )
        #expect(action?["type"] == "forward" && action?["timeout"] == "1500ms")
        #expect(
            first(action, "destinations", "subset") == "v1" && first(action, "destinations", "weight") == 80)
        #expect(first(action, "fault", "abort", "httpStatus") == 418)
    }

    @Test func `redirects, answers and stream routes are told apart`() throws {
        func route(_ index: Int, _ action: RouteAction) -> Route {
            Route(.init(object: "HTTPRoute shop/web", index: index), action: action)
        }
        let routes = [
            route(0, .redirect(Redirect(status: 308, scheme: "https", port: .number(8443)))),
            route(1, .respond(DirectResponse(status: 503, body: [1, 2]))),
        ]
        var match = StreamRoute.Match(port: 90)
        match.sourceNamespace = "tools"
        let stream = StreamRoute(
            .init(object: "TCPRoute shop/t", index: 0), matches: [match],
            destinations: [WeightedDestination(.unresolved("Service shop/gone"))])
        let dump = try dump(
            WaypointService(
                Self.key,
                ports: [
                    80: .init(.http11, virtualHosts: [VirtualHost("web", routes: routes)]),
                    90: .init(.tcp, streams: [stream]),
                ]), in: snapshot())
        guard case .list(let ports)? = dump["routes"], ports.count == 2,
            case .list(let hosts)? = ports[0]["virtualHosts"], case .list(let written)? = hosts[0]["routes"]
        else { return #expect(Bool(false), "\(dump)") }
        #expect(written[0]["action"]?["text"] == "redirect 308, scheme https, port 8443")
        #expect(written[0]["action"]?["type"] == "redirect" && written[0]["action"]?["port"] == 8443)
        #expect(written[1]["action"]?["text"] == "answer 503" && written[1]["action"]?["bodyBytes"] == 2)
        #expect(first(ports[1], "streams", "matches", "text") == "port is 90 and from namespace tools")
        #expect(
            first(ports[1], "streams", "action", "text") == "nowhere (Service shop/gone is not known)")
    }

    @Test func `a destination is told for each port and subset, with its endpoints`() throws {
        var limited = TrafficPolicy()
        limited.loadBalancing = LoadBalancing(
            .hash(.cookie(name: "id", path: nil, lifetime: .seconds(60)), .maglev(tableSize: 101)))
        limited.connectionPool.maxRequests = 7
        limited.outlierDetection = OutlierDetection()
        limited.tls = TLSOrigination(isMutual: true, credentialName: "keys")
        let policy = DestinationPolicy(
            Self.key, sources: ["DestinationRule shop/web"],
            subsets: [
                "v2": .init(labels: ["version": "v2"], endpoints: ["c//Pod/shop/two"], traffic: limited),
                "v3": .init(),
            ])
        let other = NamespacedName(namespace: "shop", name: "api.shop")
        let dump = try dump(
            WaypointService(Self.key, destinations: ["web.shop": policy]),
            WaypointService(other, destinations: ["web.shop": policy]), in: snapshot())
        guard case .list(let rows)? = dump["destinations"], rows.count == 3 else {
            return #expect(Bool(false), "\(dump)")
        }
        #expect(rows.map { $0["subset"] } == [nil, "v2", "v3"])
        #expect(rows.allSatisfy { $0["host"] == "web.shop" && $0["port"] == 80 })
        #expect(rows[0]["usedBy"] == ["shop/api.shop", "shop/web.shop"])
        #expect(rows[0]["sources"] == ["DestinationRule shop/web"])
        #expect(rows[0]["loadBalancing"]?["text"] == "least request" && rows[0]["limits"]?["text"] == "")
        #expect(rows[0]["tls"] == nil && rows[0]["outlierDetection"] == nil)
        guard case .list(let all)? = rows[0]["endpoints"] else { return #expect(Bool(false), "\(rows[0])") }
        #expect(all.map { $0["address"] } == ["10.0.0.1:8080", "10.0.0.2:8080"])
        #expect(rows[1]["labels"]?["version"] == "v2")
        #expect(rows[1]["loadBalancing"]?["text"] == "maglev hash of cookie id")
        #expect(first(rows[1], "loadBalancing", "key", "lifetime") == "60s")
        #expect(rows[1]["limits"]?["text"] == "requests 7" && rows[1]["limits"]?["maxRequests"] == 7)
        #expect(rows[1]["outlierDetection"]?["text"] == "out after 5 of 5xx for 30s")
        #expect(rows[1]["tls"]?["mode"] == "MUTUAL" && rows[1]["tls"]?["credentialName"] == "keys")
        #expect(
            rows[1]["endpoints"] == [
                .object([
                    .init("uid", "c//Pod/shop/two"), .init("address", "10.0.0.2:8080"), .init("weight", 1),
                ])
            ])
        #expect(rows[2]["endpoints"] == [])
    }
    @Test func `a destination that is not known is told without a port`() throws {
        let gone = DestinationPolicy(NamespacedName(namespace: "shop", name: "gone.shop"))
        let dump = try dump(WaypointService(Self.key, destinations: ["gone.shop": gone]), in: snapshot())
        guard case .list(let rows)? = dump["destinations"], rows.count == 1 else {
            return #expect(Bool(false), "\(dump)")
        }
        #expect(rows[0]["host"] == "gone.shop" && rows[0]["port"] == nil && rows[0]["endpoints"] == [])
    }
}
