import Routing
import Testing

@testable import L7

/// Tries again that are under way at once.
struct RetryLimitTests {
    private static let get = "GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    private static let broken = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"

    private func proxy(limit: Int) throws -> Proxy {
        try Proxy(
            forwarding { $0.retries = RetryPolicy(attempts: 2, conditions: [.gatewayErrors]) }, endpoints: 2,
            upstream: { $0.retryLimit = limit })
    }

    @Test func `beyond the limit the client gets the answer that there is`() throws {
        let proxy = try proxy(limit: 1)
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let clients = [proxy.client(), proxy.client()]
        for number in 0..<2 {
            clients[number].feed(Self.get)
            _ = try proxy.connection(number).takeText()
        }
        proxy.connections[0].channel.feed(Self.broken)
        let again = try proxy.connection(2)
        #expect(again.takeText().contains("x-envoy-attempt-count: 2\r\n") && upstream.activeRetries == 1)
        let counted = L7Metrics.shared.retryOverflows.value
        proxy.connections[1].channel.feed(Self.broken)
        #expect(try proxy.answer(clients[1], "no").hasPrefix("HTTP/1.1 503 "))
        #expect(
            proxy.records.last?.flags == .upstreamOverflow && L7Metrics.shared.retryOverflows.value > counted)
        // One that goes on has its place already, and gives it back at the end.
        again.feed(Self.broken)
        try proxy.until("a third try") { proxy.connections.contains { $0.channel.text.contains("count: 3") } }
        let last = try #require(proxy.connections.first { $0.channel.text.contains("count: 3") }).channel
        #expect(upstream.activeRetries == 1)
        last.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        #expect(try proxy.answer(clients[0], "hi").hasPrefix("HTTP/1.1 200 "))
        #expect(upstream.activeRetries == 0)
    }

    @Test func `a client that leaves during the pause gives the place back`() throws {
        let proxy = try proxy(limit: 1)
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let client = proxy.client()
        client.feed(Self.get)
        let server = try proxy.connection()
        server.feed(Self.broken)
        #expect(upstream.activeRetries == 1)
        client.drop()
        try proxy.until("the end of the exchange") { proxy.records.count == 1 }
        #expect(upstream.activeRetries == 0)
    }
}
