import Routing
import Testing

@testable import L7

/// HTTP/1 connections at once.
struct ConnectionLimitTests {
    private static func ok(_ body: String) -> String {
        "HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    private func ask(_ proxy: Proxy, _ path: String) -> MemoryChannel {
        let client = proxy.client()
        client.feed("GET /\(path) HTTP/1.1\r\nHost: app\r\n\r\n")
        return client
    }

    private func text(_ channel: MemoryChannel, _ proxy: Proxy, has text: String) throws {
        try proxy.until("\(text) at the endpoint") { channel.text.contains(text) }
    }

    @Test func `requests wait for the connection that there is, in order`() throws {
        let proxy = try Proxy(upstream: { $0.connectionLimit = 1 })
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let counted = L7Metrics.shared.connectionOverflows.value
        let clients = ["a", "b", "c"].map { ask(proxy, $0) }
        let server = try proxy.connection()
        for (number, name) in ["a", "b", "c"].enumerated() {
            try text(server, proxy, has: "GET /\(name) ")
            let request = server.takeText()
            #expect(request.components("GET /") == 1 && upstream.pendingRequests == 2 - number)
            server.feed(Self.ok("body \(name)"))
            #expect(try proxy.answer(clients[number], "body \(name)").hasPrefix("HTTP/1.1 200 "))
        }
        #expect(proxy.connections.count == 1 && upstream.connectionCount == 1 && upstream.activeRequests == 0)
        #expect(L7Metrics.shared.connectionOverflows.value >= counted + 2)
        upstream.close()
        #expect(upstream.connectionCount == 0)
    }

    @Test func `what follows an answer is no answer to who waits`() throws {
        let proxy = try Proxy(upstream: { $0.connectionLimit = 1 })
        let clients = ["a", "b"].map { ask(proxy, $0) }
        try proxy.connection().feed(Self.ok("one") + Self.ok("stray"))
        _ = try proxy.answer(clients[0], "one")
        let next = try proxy.connection(1)
        next.feed(Self.ok("two"))
        #expect(try proxy.answer(clients[1], "two").hasSuffix("\r\n\r\ntwo"))
    }

    @Test func `who waits gets a new connection when one ends`() throws {
        let proxy = try Proxy(
            upstream: {
                $0.connectionLimit = 1
                $0.requestsPerConnection = 1
            })
        let clients = (0..<3).map { ask(proxy, "\($0)") }
        for number in 0..<3 {
            let server = try proxy.connection(number)
            #expect(proxy.connections.count == number + 1)
            server.feed(Self.ok("body \(number)"))
            _ = try proxy.answer(clients[number], "body \(number)")
        }
    }

    @Test func `one connection to each endpoint may be, and connections that fail make room`() throws {
        let proxy = try Proxy(
            forwarding { $0.retries = RetryPolicy(attempts: 0) }, endpoints: 2,
            upstream: { $0.connectionLimit = 1 })
        proxy.unreachable = ["app.shop-1"]
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let clients = (0..<4).map { ask(proxy, "\($0)") }
        // In turn to 1 and 0; all that wait for the first fail one after another.
        for number in [0, 2] {
            #expect(try proxy.answer(clients[number], "\r\n\r\n").hasPrefix("HTTP/1.1 503 "))
        }
        let server = try proxy.connection()
        for number in [1, 3] {
            try text(server, proxy, has: "GET /\(number) ")
            _ = server.takeText()
            server.feed(Self.ok("body \(number)"))
            _ = try proxy.answer(clients[number], "body \(number)")
        }
        #expect(upstream.connectionCount == 1 && upstream.pendingRequests == 0)
    }

    @Test func `so many wait and no more, and who leaves waits no longer`() throws {
        let proxy = try Proxy(
            upstream: {
                $0.connectionLimit = 1
                $0.pendingLimit = 1
            })
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let first = ask(proxy, "first")
        let server = try proxy.connection()
        _ = server.takeText()
        let second = ask(proxy, "second")
        try proxy.until("one waits") { upstream.pendingRequests == 1 }
        #expect(try proxy.answer(ask(proxy, "third"), "overflow").contains("x-envoy-overloaded: true\r\n"))
        second.drop()
        try proxy.until("nobody waits") { upstream.pendingRequests == 0 }
        server.feed(Self.ok("body"))
        _ = try proxy.answer(first, "body")
        let fourth = ask(proxy, "fourth")
        try text(server, proxy, has: "GET /fourth ")
        #expect(!server.text.contains("second"))
        server.feed(Self.ok("last"))
        _ = try proxy.answer(fourth, "last")
    }
}

extension String {
    /// How often a text is in it.
    fileprivate func components(_ text: String) -> Int {
        ranges(of: text).count
    }
}
