import Routing
import TestSupport
import Testing

/// A route with one match that forwards to a service named after it.
func route(_ name: String, _ match: RequestMatch..., rewrite: Rewrite? = nil) -> Route {
    Route(
        .init(object: name, index: 0), matches: match,
        action: .forward(Forwarding([WeightedDestination(Destination(name))], rewrite: rewrite)))
}

func match(_ path: PathMatch? = nil, _ change: (inout RequestMatch) -> Void = { _ in }) -> RequestMatch {
    var result = RequestMatch(path: path)
    change(&result)
    return result
}

extension RoutingTable {
    convenience init(routes: [Route]) throws {
        try self.init([VirtualHost("host", routes: routes)])
    }

    /// The object of the route that takes a request, "404" or "no host".
    func name(_ head: RequestHead, from origin: RequestOrigin = RequestOrigin()) -> String {
        let explained = explain(head, from: origin)
        let outcome = route(head, from: origin)
        let result = Self.text(outcome)
        // What people are told is what happens.
        #expect(result == Self.text(explained.outcome))
        return result
    }

    func name(
        _ path: String, method: String = "GET", authority: String = "a.example",
        headers: [(String, String)] = [], from origin: RequestOrigin = RequestOrigin()
    ) -> String {
        name(RequestHead(method: method, authority: authority, path: path, headers: headers), from: origin)
    }

    private static func text(_ outcome: RoutingOutcome) -> String {
        switch outcome {
        case .noHost: "no host"
        case .noRoute: "404"
        case .route(let entry, _): entry.route.name.object
        }
    }
}

@Suite("Which route takes a request")
struct RoutingTableTests {
    @Test("the first rule whose match holds wins, whatever the index makes of it (A.2, E.1)")
    func firstMatch() throws {
        let table = try RoutingTable(routes: [
            route("regex", match(.regex("/v[0-9]+"))), route("exact", match(.exact("/v1"))),
            route("short", match(.prefix("/a"))), route("long", match(.prefix("/a/b"))),
            route("late", match(.exact("/a/b"))), route("rest"), route("never", match(.exact("/x"))),
        ])
        #expect(table.name("/v1") == "regex")
        #expect(table.name("/a/b") == "short")
        #expect(table.name("/x") == "rest")
    }

    @Test("a rule's matches are alternatives, a match's fields all have to hold (A.2)")
    func alternatives() throws {
        let table = try RoutingTable(routes: [
            route(
                "r", match(.exact("/productpage")), match(.prefix("/static")),
                match(.exact("/login")) { $0.method = .exact("POST") })
        ])
        #expect(table.name("/productpage") == "r")
        #expect(table.name("/static/x") == "r")
        #expect(table.name("/login") == "404")
        #expect(table.name("/login", method: "POST") == "r")
    }

    @Test("a VirtualService's prefix is text, Gateway API's is made of elements (A.2, E.4)")
    func prefixes() throws {
        let text = try RoutingTable(routes: [route("r", match(.prefix("/static")))])
        #expect(text.name("/staticfoo") == "r")
        for spelling in ["/foo", "/foo/"] {
            let elements = try RoutingTable(routes: [route("r", match(.elementPrefix(spelling)))])
            #expect(elements.name("/foo") == "r")
            #expect(elements.name("/foo/bar") == "r")
            #expect(elements.name("/foo?x=/") == "r")
            #expect(elements.name("/foobar") == "404")
        }
        #expect(try RoutingTable(routes: [route("r", match(.elementPrefix("/")))]).name("/any") == "r")
    }

    @Test("the path is compared without its query, and with its case unless told otherwise (E.1)")
    func paths() throws {
        let table = try RoutingTable(routes: [
            route("exact", match(.exact("/Foo"))),
            route("any case", match(.prefix("/BAR")) { $0.ignoresPathCase = true }),
            route("regex", match(.regex("/[a-z]+")) { $0.ignoresPathCase = true }),
        ])
        #expect(table.name("/Foo?q=1") == "exact")
        #expect(table.name("/bar/x") == "any case")
        #expect(table.name("/foo") == "regex")
        // ignoreUriCase is not for regular expressions.
        #expect(table.name("/FOO") == "404")
    }

    @Test("header names have no case, values do; of several fields of a name any will do (A.2, E.1)")
    func headers() throws {
        let table = try RoutingTable(routes: [
            route("exact", match { $0.headers = [NamedMatch("End-User", .exact("jason"))] }),
            route("regex", match { $0.headers = [NamedMatch("x-v", .regex("v[0-9]"))] }),
            route("present", match { $0.headers = [NamedMatch("x-v", .present)] }),
        ])
        #expect(table.name("/", headers: [("END-USER", "jason")]) == "exact")
        #expect(table.name("/", headers: [("end-user", "Jason")]) == "404")
        #expect(table.name("/", headers: [("end-user", "a"), ("end-user", "jason")]) == "exact")
        #expect(table.name("/", headers: [("end-user", "jason,b")]) == "404")
        #expect(table.name("/", headers: [("x-v", "v1")]) == "regex")
        #expect(table.name("/", headers: [("x-v", "v12")]) == "present")
    }

    @Test("withoutHeaders inverts; an absent header is an empty one (E.1)")
    func withoutHeaders() throws {
        let table = try RoutingTable(routes: [
            route("r", match { $0.withoutHeaders = [NamedMatch("x-v", .exact("1"))] }),
            route("present", match { $0.withoutHeaders = [NamedMatch("x-w", .present)] }),
            route("empty", match { $0.withoutHeaders = [NamedMatch("x-absent", .regex(".*"))] }),
        ])
        #expect(table.name("/") == "r")
        #expect(table.name("/", headers: [("x-v", "2")]) == "r")
        #expect(table.name("/", headers: [("x-v", "1")]) == "present")
        #expect(table.name("/", headers: [("x-v", "1"), ("x-w", "")]) == "404")
        #expect(table.name("/", headers: [("x-w", ""), ("x-v", "1"), ("x-v", "2")]) == "404")
    }

    @Test("query parameters are compared by their first value (E.1)")
    func query() throws {
        let table = try RoutingTable(routes: [
            route("exact", match { $0.queryParameters = [NamedMatch("k", .exact("1"))] }),
            route("empty", match { $0.queryParameters = [NamedMatch("k", .exact(""))] }),
            route("present", match { $0.queryParameters = [NamedMatch("k", .present)] }),
        ])
        #expect(table.name("/?a=0&k=1&k=2") == "exact")
        #expect(table.name("/?k") == "empty")
        #expect(table.name("/?k=2&k=1") == "present")
        #expect(table.name("/?kk=1#k=1") == "404")
    }

    @Test("method, scheme, port, source's namespace and labels are compared (E.1)")
    func others() throws {
        let table = try RoutingTable(routes: [
            route("method", match { $0.method = .prefix("P") }), route("port", match { $0.port = 8_080 }),
            route("scheme", match { $0.scheme = .exact("https") }),
            route("namespace", match { $0.sourceNamespace = "shop" }),
            route("labels", match { $0.sourceLabels = ["app": "web", "version": "v1"] }),
        ])
        #expect(table.name("/", method: "PUT") == "method")
        #expect(table.name("/", from: RequestOrigin(port: 8_080)) == "port")
        #expect(table.name(RequestHead(scheme: "https", authority: "a", path: "/")) == "scheme")
        #expect(table.name("/", from: RequestOrigin(namespace: "shop")) == "namespace")
        #expect(
            table.name("/", from: RequestOrigin(labels: ["app": "web", "version": "v1", "x": ""])) == "labels"
        )
        #expect(table.name("/", from: RequestOrigin(labels: ["app": "web"])) == "404")
    }

    @Test("an authority is compared as the client sent it, with its port (E.1)")
    func authority() throws {
        let table = try RoutingTable(routes: [
            route("r", match { $0.authority = .exact("a.example:8080") }),
            route("prefix", match { $0.authority = .prefix("a.") }),
        ])
        #expect(table.name("/", authority: "a.example:8080") == "r")
        #expect(table.name("/", authority: "a.example") == "prefix")
        #expect(table.name("/", authority: "A.example") == "404")
    }

    @Test("hosts: exact, then the longest suffix, then the longest prefix, then all; with and without port")
    func hosts() throws {
        let domains = [
            "a.example", "*.example", "*.b.example", "a.*", "*", "a.example:8080", "[fd00::1]",
        ]
        let table = try RoutingTable(
            domains.map { VirtualHost($0, domains: [$0], routes: [route($0)]) })
        let expected = [
            "a.example": "a.example", "A.Example:80": "a.example", "a.example:8080": "a.example:8080",
            "b.example": "*.example", "x.b.example:1": "*.b.example", ".example": "*", "a.test": "a.*",
            "a.": "*", "other": "*", "": "*", "[fd00::1]": "[fd00::1]", "[fd00::1]:80": "[fd00::1]",
        ]
        for (authority, host) in expected {
            #expect(table.name("/", authority: authority) == host, "\(authority)")
        }
        let one = try RoutingTable([VirtualHost("h", domains: ["h"], routes: [route("r")])])
        #expect(one.name("/", authority: "x") == "no host")
        #expect(one.name("/", authority: "h:http") == "no host")
    }

    @Test("every mistake of a table is named with its place")
    func errors() {
        #expect {
            try RoutingTable([
                VirtualHost("h", domains: ["a", "A", "a.*.b"], routes: [route("bad", match(.regex("(")))])
            ])
        } throws: { error in
            (error as? RoutingTableError)?.problems.map(\.place) == ["h", "h", "bad rule 0"]
        }
    }

    @Test("an explanation says of every match before the one that held why it did not")
    func explanation() throws {
        let table = try RoutingTable(routes: [
            route("a", match(.exact("/a"))),
            route("b", match { $0.headers = [NamedMatch("x", .exact("1"))] }),
            route("c", match { $0.method = .exact("GET") }), route("d"),
        ])
        let result = table.explain(RequestHead(authority: "h", path: "/b?q"), from: RequestOrigin())
        #expect(
            result.steps.map(\.reason) == [
                "the path \"/b\" is not \"/a\"", "the header x is not \"1\"", nil,
            ])
        #expect(result.host == "host")
    }

    @Test("random tables: the index never changes what a walk in order finds")
    func index() throws {
        var random = SeededGenerator(seed: 6)
        let words = ["/a", "/ab", "/a/b", "/a/b/", "/", "", "/b", "/A"]
        for _ in 0..<300 {
            let routes = (0..<Int.random(in: 1...12, using: &random)).map { number in
                let word = words.randomElement(using: &random) ?? ""
                let path: PathMatch? =
                    [
                        nil, .exact(word), .prefix(word), .elementPrefix(word), .regex(word + ".?"),
                    ].randomElement(using: &random) ?? nil
                return route(
                    "\(number)",
                    match(path) {
                        $0.ignoresPathCase = Bool.random(using: &random)
                        if Bool.random(using: &random) { $0.method = .exact("PUT") }
                    })
            }
            let table = try RoutingTable(routes: routes)
            // `name` compares the two.
            for word in words where !word.isEmpty {
                for path in [word, word + "x", word + "/x"] {
                    _ = table.name(path, method: Bool.random(using: &random) ? "PUT" : "GET")
                }
            }
        }
    }

    @Test("ten thousand routes of every indexed kind are told apart")
    func large() throws {
        let table = try RoutingTable(
            routes: (0..<10_000).map { number in
                let path = "/service-\(number)"
                let kinds: [PathMatch] = [
                    .exact(path), .elementPrefix(path), .prefix(path + "/"),
                ]
                return route("\(number)", match(kinds[number % 3]))
            })
        for number in stride(from: 0, to: 10_000, by: 97) {
            let path = "/service-\(number)" + (number % 3 == 0 ? "" : "/x")
            #expect(table.name(path) == "\(number)")
        }
        #expect(table.name("/service-10000") == "404")
    }
}
