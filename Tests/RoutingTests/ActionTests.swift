import Address
import Routing
import TestSupport
import Testing

@Suite("What a route does with a request")
struct ActionTests {
    private func rewritten(_ path: String, _ matched: PathMatch?, _ rewrite: Rewrite.Path) throws -> String {
        let table = try RoutingTable(routes: [route("r", match(matched), rewrite: Rewrite(path: rewrite))])
        let head = RequestHead(authority: "h", path: path)
        guard case .route(let entry, let number) = table.route(head, from: RequestOrigin()) else {
            return "404"
        }
        return entry.rewrittenPath(head, match: number).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    @Test("rewrite.uri replaces the prefix that matched, or the whole path of an exact or regex match (E.2)")
    func rewriteMatched() throws {
        #expect(try rewritten("/foo/bar?q=1", .prefix("/foo"), .matched("/x")) == "/x/bar?q=1")
        #expect(try rewritten("/foo/bar", .prefix("/foo/"), .matched("/")) == "/bar")
        #expect(try rewritten("/foo/bar", .prefix("/foo"), .matched("/")) == "//bar")
        #expect(try rewritten("/foo/bar", .exact("/foo/bar"), .matched("/x")) == "/x")
        #expect(try rewritten("/foo/bar?q", .regex("/foo.*"), .matched("/x")) == "/x?q")
        // A rule without a match is one for the prefix "/".
        #expect(try rewritten("/foo", nil, .matched("/v2")) == "/v2foo")
    }

    @Test(
        "ReplacePrefixMatch replaces elements, and slashes at ends do not matter (E.4)",
        arguments: [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"), ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"), ("/foo", "/foo", "/", "/"), ("/foo?q", "/foo", "/", "/?q"),
        ])
    func rewriteElements(path: String, prefix: String, by: String, expected: String) throws {
        #expect(try rewritten(path, .elementPrefix(prefix), .matchedElements(by)) == expected)
    }

    @Test("ReplaceFullPath and uriRegexRewrite keep the query (E.2, E.4)")
    func rewriteOthers() throws {
        #expect(try rewritten("/foo?q", .elementPrefix("/"), .full("/x")) == "/x?q")
        #expect(
            try rewritten(
                "/service/foo/v1?q=/service", .prefix("/"),
                .regex("^/service/([^/]+)(/.*)$", replacement: "\\2/instance/\\1"))
                == "/v1/instance/foo?q=/service")
    }

    private func location(
        _ redirect: Redirect, _ path: String = "/a?q", authority: String = "h.example",
        scheme: String = "http",
        matched: PathMatch? = .prefix("/")
    ) throws -> String {
        let table = try RoutingTable(routes: [
            Route(.init(object: "r", index: 0), matches: [match(matched)], action: .redirect(redirect))
        ])
        let head = RequestHead(scheme: scheme, authority: authority, path: path)
        guard case .route(let entry, let number) = table.route(head, from: RequestOrigin(port: 8_080)) else {
            return "404"
        }
        return entry.location(head, from: RequestOrigin(port: 8_080), match: number)
            .map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    @Test("a redirect keeps what it does not name, the query included, and leaves out a default port (E.2)")
    func redirects() throws {
        #expect(try location(Redirect(authority: "b")) == "http://b/a?q")
        #expect(try location(Redirect(path: .full("/new"))) == "http://h.example/new?q")
        #expect(try location(Redirect(path: .full("/new?own"))) == "http://h.example/new?own")
        #expect(try location(Redirect(scheme: "https"), authority: "h:80") == "https://h/a?q")
        #expect(try location(Redirect(scheme: "https"), authority: "h:8080") == "https://h:8080/a?q")
        #expect(try location(Redirect(port: .number(81)), authority: "h:80") == "http://h:81/a?q")
        #expect(try location(Redirect(scheme: "https", port: .number(443))) == "https://h.example/a?q")
        #expect(try location(Redirect(port: .request), authority: "h") == "http://h:8080/a?q")
        #expect(try location(Redirect(port: .protocolDefault), authority: "h:81") == "http://h/a?q")
        #expect(
            try location(Redirect(path: .matchedElements("/b")), "/a/c", matched: .elementPrefix("/a"))
                == "http://h.example/b/c")
        #expect(try location(Redirect(authority: "b"), authority: "[fd00::1]:80") == "http://b/a?q")
    }

    @Test("weights are shares of their sum; without any the answer is 500 (A.2, E.4)")
    func weights() {
        let forwarding = Forwarding([
            WeightedDestination(Destination("a"), weight: 1),
            WeightedDestination(Destination("b"), weight: 0),
            WeightedDestination(Destination("c"), weight: 3),
        ])
        let chosen = (0..<8).map { forwarding.destination(random: $0)?.target }
        let (a, c) = (
            WeightedDestination.Target.service(.init("a")), WeightedDestination.Target.service(.init("c"))
        )
        #expect(chosen == [a, c, c, c, a, c, c, c])
        let none = WeightedDestination(Destination("a"), weight: 0)
        #expect(Forwarding([none, none]).destination(random: 0) == nil)
        #expect(Forwarding([none]).destination(random: 0) == none)
    }

    @Test("retryOn knows every name and every status (E.2)")
    func retryOn() throws {
        let all =
            "5xx,gateway-error,reset,reset-before-request,connect-failure,retriable-4xx,refused-stream,"
            + "retriable-status-codes,retriable-headers,envoy-ratelimited,http3-post-connect-failure,"
            + "cancelled,deadline-exceeded,internal,resource-exhausted,unavailable"
        #expect(try RetryConditions.parse(all).0 == RetryConditions(rawValue: 0xffff))
        let (conditions, statuses) = try RetryConditions.parse("connect-failure, 503 ,504")
        #expect(conditions == [.connectFailure, .statuses])
        #expect(statuses == [503, 504])
        #expect(try RetryConditions.parse("").0 == .meshDefault)
        #expect(throws: UnknownRetryCondition(name: "5XX")) { try RetryConditions.parse("5XX") }
        #expect(throws: UnknownRetryCondition(name: "99")) { try RetryConditions.parse("99") }
    }

    @Test("shares are exact to a millionth and cut off outside 0 and 100 percent")
    func fractions() {
        #expect(Fraction(percent: 0.0001).millionths == 1)
        #expect(Fraction(percent: 101) == .all)
        #expect(Fraction(percent: -1).millionths == 0)
        #expect(Fraction(percent: .nan).millionths == 0)
        #expect(Fraction(numerator: 1, denominator: 4).millionths == 250_000)
        #expect(Fraction(numerator: .max, denominator: 1) == .all)
        #expect(Fraction.all.includes(random: .max))
        #expect(!Fraction(percent: 0).includes(random: 0))
    }

    @Test("CORS: an origin is exact, a prefix, a regular expression or any (E.2)")
    func cors() throws {
        var route = route("r")
        route.cors = CORSPolicy()
        route.cors?.allowOrigins = [.exact("https://a"), .prefix("https://b."), .regex("https://[cd]")]
        let table = try RoutingTable(routes: [route])
        guard case .route(let entry, _) = table.route(RequestHead(authority: "h", path: "/"), from: .init())
        else {
            Issue.record("no route")
            return
        }
        for (origin, isAllowed) in [
            ("https://a", true), ("https://a.", false), ("https://b.x", true), ("https://d", true),
        ] {
            #expect(entry.allowsOrigin(Array(origin.utf8)) == isAllowed)
        }
    }

    @Test("stream routes: server names with wildcards, ports, subnets and sources; the first wins (E.2)")
    func streams() throws {
        let subnet = try #require(Prefix("10.0.0.0/8"))
        var inner = StreamRoute.Match(port: 5_432)
        inner.destinationSubnets = [subnet]
        inner.sourceLabels = ["app": "web"]
        func route(_ name: String, _ matches: StreamRoute.Match...) -> StreamRoute {
            StreamRoute(
                .init(object: name, index: 0), matches: matches,
                destinations: [WeightedDestination(Destination(name))])
        }
        let table = StreamTable([
            route("exact", .init(serverNames: ["a.example"])),
            route("suffix", .init(serverNames: ["*.example"])),
            route("inner", inner),
        ])
        let origin = RequestOrigin(port: 5_432, labels: ["app": "web"])
        #expect(table.route(serverName: "a.example", destination: nil, from: origin) == 0)
        #expect(table.route(serverName: "b.example", destination: nil, from: origin) == 1)
        #expect(table.route(serverName: "example", destination: nil, from: origin) == nil)
        #expect(table.route(serverName: nil, destination: IPAddress("10.1.2.3"), from: origin) == 2)
        #expect(table.route(serverName: nil, destination: IPAddress("11.1.2.3"), from: origin) == nil)
        #expect(
            table.route(serverName: nil, destination: IPAddress("10.1.2.3"), from: RequestOrigin(port: 1))
                == nil)
    }
}
