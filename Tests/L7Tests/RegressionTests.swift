import Address
import EventLoop
import HTTP2
import Linux
import Routing
import Testing
import Tunnel

@testable import L7

/// What an attack on the proxy found, each by what it did.
struct RegressionTests {
    private static let ok = HTTP1ProxyTests.ok
    private static let get = "GET / HTTP/1.1\r\nHost: app\r\n\r\n"

    @Test func `content that came during a delay and is too much to keep goes to one try only`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.fault = Fault(delay: .init(.milliseconds(20), share: .all))
                $0.retries = RetryPolicy(attempts: 3, conditions: .serverErrors)
                $0.mirrors = [Mirror(Destination("other.shop"))]
            }, endpoints: 2
        ) { $0.retryBuffer = 1_000 }
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<3 { client.feed("320\r\n" + String(repeating: "x", count: 0x320) + "\r\n") }
        client.feed("0\r\n\r\n")
        let server = try proxy.connection()
        try proxy.until("all of it") { server.text.hasSuffix("0\r\n\r\n") }
        #expect(server.text.filter { $0 == "x" }.count >= 3 * 0x320)
        server.feed("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 500 "))
        // Neither another try nor a mirror got a part of it.
        #expect(proxy.connections.count == 1)
    }

    @Test func `a pool that is left while it connects makes one connection and serves who waits`() throws {
        let proxy = try Proxy(http2: true)
        let client = proxy.client()
        client.feed(Self.get)
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        upstream.update([])
        let server = try proxy.connection()
        for _ in 0..<50 { proxy.loop.turn(waitingAtMost: .milliseconds(1)) }
        #expect(proxy.connections.count == 1)
        #expect(!server.written.isEmpty)
        client.drop()
        proxy.loop.turn(waitingAtMost: .milliseconds(1))
    }

    @Test func `who begins as HTTP does and then waits is not passed through`() throws {
        let proxy = try Proxy(port: .unknown) {
            $0.detectionDeadline = .milliseconds(5)
            $0.headDeadline = .milliseconds(100)
        }
        var passed = false
        proxy.service.onBytes = { _, _, _ in passed = true }
        let client = proxy.client()
        client.feed("G")
        for _ in 0..<20 { proxy.loop.turn(waitingAtMost: .milliseconds(1)) }
        client.feed("ET / HTTP/1.1\r\nHost: app\r\n\r\n")
        let server = try proxy.connection()
        server.feed(Self.ok)
        _ = try proxy.answer(client, "\r\n\r\n")
        #expect(!passed)
        let late = proxy.client()
        late.feed("G")
        try proxy.until("it is let go of") { late.isClosed }
        #expect(!passed)
    }

    @Test func `a mirror that never answers is let go of, and so many may wait`() throws {
        let proxy = try Proxy(forwarding { $0.mirrors = [Mirror(Destination("other.shop"))] }) {
            $0.mirrorTimeout = .milliseconds(20)
            $0.mirrorLimit = 1
        }
        let client = proxy.client()
        let mirrors = { proxy.connections.filter { $0.endpoint.id.hasPrefix("other") } }
        for turn in 0..<2 {
            client.feed(Self.get)
            try proxy.until("the request") {
                proxy.connections.contains { $0.endpoint.id.hasPrefix("app") && !$0.channel.written.isEmpty }
            }
            let server = try #require(proxy.connections.first { $0.endpoint.id.hasPrefix("app") }).channel
            _ = server.take()
            server.feed(Self.ok)
            _ = try proxy.answer(client, "\r\n\r\n")
            #expect(mirrors().count <= 1, "turn \(turn)")
        }
        try proxy.until("the mirror is given up") { mirrors().allSatisfy { !$0.channel.isOpen } }
        let upstream = try #require(proxy.upstreams[Destination("other.shop")])
        #expect(upstream.mirrorsUnderWay == 0 && upstream.activeRequests == 0)
    }

    @Test(arguments: [
        "GET / HTTP/1.0\r\n\r\n", "GET /\u{7f} HTTP/1.1\r\nHost: app\r\n\r\n",
    ]) func `what cannot be sent on costs no connection`(request: String) throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(request)
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
        #expect(proxy.connections.isEmpty)
    }

    @Test func `a try after a change of configuration goes where that says`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.retries = RetryPolicy(attempts: 3, conditions: .serverErrors)
                $0.retries?.backoff = .milliseconds(1)
            })
        let client = proxy.client()
        client.feed(Self.get)
        let first = try proxy.connection()
        let old = try #require(proxy.upstreams[Destination("app.shop")])
        let new = Upstream(loop: proxy.loop, Destination("app.shop"), old.configuration, connector: proxy)
        new.update([
            UpstreamEndpoint(id: "new", address: try #require(SocketAddress("10.0.0.9:80")))
        ])
        proxy.upstreams[Destination("app.shop")] = new
        old.close()
        first.feed("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
        let second = try proxy.connection(1)
        #expect(proxy.connections[1].endpoint.id == "new")
        second.feed(Self.ok)
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
    }

    @Test func `draining lets go of the silent after a moment and answers who has begun`() throws {
        let proxy = try Proxy { $0.drainGrace = .milliseconds(20) }
        let silent = proxy.client()
        let begun = proxy.client()
        begun.feed("GET / HT")
        begun.feed("TP/1.1\r\nho")
        proxy.service.drain()
        #expect(!silent.isClosed && !begun.isClosed)
        try proxy.until("the silent one is let go of") { silent.isClosed }
        begun.feed("st: app\r\n\r\n")
        let server = try proxy.connection()
        server.feed(Self.ok)
        let answer = try proxy.answer(begun, "\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"))
        try proxy.until("it ends") { begun.isClosed }
        #expect(proxy.service.connectionCount == 0)
    }

    @Test func `what an endpoint says too much answers nobody`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(Self.get + "GET /next HTTP/1.1\r\nHost: app\r\n\r\n")
        let server = try proxy.connection()
        server.feed(Self.ok + "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        let next = try proxy.connection(1)
        #expect(next.takeText().hasPrefix("GET /next "))
        next.feed("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
        #expect(!(try proxy.answer(client, "good")).contains("poison"))
    }
}
