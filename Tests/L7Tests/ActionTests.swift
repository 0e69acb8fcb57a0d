import EventLoop
import HTTP2
import Linux
import Routing
import Testing
import Tunnel

@testable import L7

/// What routes say to do with a request, and what becomes of it then.
struct ActionTests {
    static let ok = HTTP1ProxyTests.ok

    private func route(_ action: RouteAction, _ change: (inout Route) -> Void = { _ in }) -> [Route] {
        var route = Route(.init(object: "test", index: 0), action: action)
        change(&route)
        return [route]
    }

    private func get(_ path: String = "/", _ fields: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: app:8080\r\n\(fields)\r\n"
    }

    // MARK: Answers of our own

    @Test func `a redirect`() throws {
        let proxy = try Proxy(
            route(.redirect(Redirect(status: 302, authority: "new.example", path: .full("/there")))))
        let client = proxy.client()
        client.feed(get("/here?x=1"))
        let answer = try proxy.answer(client, "\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 302 Found\r\nlocation: http://new.example/there?x=1\r\n"))
        #expect(answer.contains("content-length: 0\r\n"))
    }

    @Test func `a direct response, with the route's fields`() throws {
        let proxy = try Proxy(
            route(.respond(DirectResponse(status: 418, body: Array("teapot".utf8)))) {
                $0.responseHeaders.set = [.init("X-Kind", "pot")]
            })
        let client = proxy.client()
        client.feed(get())
        let answer = try proxy.answer(client, "teapot")
        #expect(
            answer.hasPrefix("HTTP/1.1 418 ") && answer.contains("content-length: 6\r\n")
                && answer.contains("x-kind: pot\r\n"))
        client.feed("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        let head = try proxy.answer(client, "\r\n\r\n")
        #expect(head.contains("content-length: 6\r\n") && head.hasSuffix("\r\n\r\n"))
    }

    @Test func `a destination's authority comes before the route's (E.2)`() throws {
        var destination = WeightedDestination(Destination("app.shop"))
        destination.authority = "destination.example"
        let proxy = try Proxy(
            forwarding {
                $0.destinations = [destination]
                $0.rewrite = Rewrite(authority: "route.example")
            })
        let client = proxy.client()
        client.feed(get("/"))
        let server = try proxy.connection()
        #expect(server.takeText().hasPrefix("GET / HTTP/1.1\r\nhost: destination.example\r\n"))
    }

    @Test func `fields are changed on the way there and back, the destination's last`() throws {
        var destination = WeightedDestination(Destination("app.shop"))
        destination.requestHeaders.set = [.init("X-A", "destination")]
        destination.responseHeaders.add = [.init("X-B", "destination")]
        var routes = forwarding {
            $0.destinations = [destination]
            $0.rewrite = Rewrite(path: .matched("/new/"), authority: "inner")
        }
        routes[0].matches = [RequestMatch(path: .prefix("/old/"))]
        routes[0].requestHeaders = HeaderOperations(
            set: [.init("X-A", "route")], add: [.init("x-c", "1")], remove: ["x-secret"])
        routes[0].responseHeaders.remove = ["X-Inner"]
        let proxy = try Proxy(routes)
        let client = proxy.client()
        client.feed(get("/old/thing?q", "X-Secret: 1\r\nX-A: client\r\n"))
        let server = try proxy.connection()
        let request = server.takeText()
        #expect(request.hasPrefix("GET /new/thing?q HTTP/1.1\r\nhost: inner\r\n"))
        #expect(
            request.contains("x-a: destination\r\n") && !request.contains("x-a: route")
                && !request.contains("x-secret"))
        #expect(request.contains("x-c: 1\r\n") && request.contains("x-envoy-original-path: /old/thing?q\r\n"))
        server.feed("HTTP/1.1 200 OK\r\nX-Inner: 1\r\nX-B: app\r\nContent-Length: 2\r\n\r\nhi")
        let answer = try proxy.answer(client, "hi")
        #expect(
            !answer.contains("x-inner") && answer.contains("x-b: app\r\n")
                && answer.contains("x-b: destination\r\n"))
    }

    @Test func `weights, and a reference that leads nowhere`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.destinations = [
                    .init(Destination("app.shop"), weight: 1), .init(Destination("other.shop"), weight: 2),
                    .init(.unresolved("gone"), weight: 1),
                ]
            })
        proxy.numbers = [3]
        let client = proxy.client()
        client.feed(get("/", "x-request-id: 1\r\n"))
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 500 "))
        proxy.numbers = [2]
        client.feed(get("/", "x-request-id: 1\r\n"))
        _ = try proxy.connection()
        #expect(proxy.connections[0].endpoint.id == "other.shop-0")
    }

    // MARK: CORS

    private var cors: [Route] {
        var routes = forwarding { _ in }
        var policy = CORSPolicy()
        policy.allowOrigins = [.exact("https://good.example")]
        policy.allowMethods = ["GET", "PUT"]
        policy.allowHeaders = ["x-a"]
        policy.exposeHeaders = ["x-b"]
        policy.maxAge = .seconds(600)
        policy.allowCredentials = true
        routes[0].cors = policy
        return routes
    }

    @Test func `a preflight request is answered here, and an answer says who may read it`() throws {
        let proxy = try Proxy(cors)
        let client = proxy.client()
        client.feed(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://good.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
        )
        let preflight = try proxy.answer(client, "\r\n\r\n")
        #expect(
            preflight.hasPrefix("HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://good.example\r\n"))
        for line in [
            "allow-credentials: true", "allow-methods: GET,PUT", "allow-headers: x-a", "max-age: 600",
        ] {
            #expect(preflight.contains("access-control-\(line)\r\n"))
        }
        #expect(proxy.connections.isEmpty)
        client.feed(get("/", "Origin: https://good.example\r\n"))
        try proxy.connection().feed(Self.ok)
        let answer = try proxy.answer(client, "hi")
        #expect(answer.contains("access-control-allow-origin: https://good.example\r\n"))
        #expect(answer.contains("access-control-expose-headers: x-b\r\n"))
    }

    @Test func `another origin's preflight request goes on, and gets no leave`() throws {
        let proxy = try Proxy(cors)
        let client = proxy.client()
        client.feed(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://bad.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n"
        )
        try proxy.connection().feed(Self.ok)
        #expect(try !proxy.answer(client, "hi").contains("access-control"))
    }

    // MARK: Faults

    @Test func `an abort, for its share of the requests`() throws {
        let proxy = try Proxy(
            forwarding { $0.fault = Fault(abort: .init(.http(555), share: Fraction(percent: 50))) })
        proxy.numbers = [0, 0, 1]
        let client = proxy.client()
        client.feed(get())
        let answer = try proxy.answer(client, "fault filter abort")
        #expect(answer.hasPrefix("HTTP/1.1 555 ") && proxy.records.first?.flags == .faultInjected)
        proxy.numbers = [999_999]
        client.feed(get())
        try proxy.connection().feed(Self.ok)
        _ = try proxy.answer(client, "hi")
    }

    @Test func `a delay comes first, and a client that leaves meanwhile leaves nothing behind`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.fault = Fault(
                    delay: .init(.milliseconds(30), share: .all),
                    abort: .init(.grpc(.unavailable), share: .all))
            })
        let client = proxy.client()
        let began = proxy.loop.now
        client.feed(get())
        let answer = try proxy.answer(client, "fault filter abort")
        #expect(proxy.loop.now - began >= .milliseconds(30) && answer.hasPrefix("HTTP/1.1 503 "))
        #expect(proxy.records.first?.flags == [.delayInjected, .faultInjected])
        client.feed(get())
        client.drop()
        #expect(
            proxy.records.last?.flags == [.delayInjected, .downstreamTermination]
                && proxy.service.activeRequests == 0)
    }

    // MARK: Deadlines

    @Test func `a request that takes too long`() throws {
        let proxy = try Proxy(forwarding { $0.timeout = .milliseconds(20) })
        let client = proxy.client()
        client.feed(get())
        let server = try proxy.connection()
        #expect(server.takeText().contains("x-envoy-expected-rq-timeout-ms: 20\r\n"))
        let answer = try proxy.answer(client, "upstream request timeout")
        #expect(answer.hasPrefix("HTTP/1.1 504 ") && proxy.records.first?.flags == .upstreamTimeout)
        #expect(server.aborted != nil && client.isOpen)
    }

    @Test func `an answer that takes too long once it has begun is cut off`() throws {
        let proxy = try Proxy(forwarding { $0.timeout = .milliseconds(20) })
        let client = proxy.client()
        client.feed(get())
        try proxy.connection().feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        try proxy.until("the end") { client.aborted != nil }
        #expect(proxy.records.first?.flags == .upstreamTimeout)
    }

    @Test func `a try that takes too long is followed by another, elsewhere`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.retries = RetryPolicy(attempts: 1, perTryTimeout: .milliseconds(20), conditions: [.reset])
            },
            endpoints: 2)
        let client = proxy.client()
        client.feed(get())
        let first = try proxy.connection()
        try proxy.connection(1).feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        #expect(first.aborted != nil && proxy.connections[0].endpoint.id != proxy.connections[1].endpoint.id)
        #expect(
            proxy.records.first?.attempts == 2
                && proxy.connections[1].channel.text.contains("attempt-count: 2"))
    }

    @Test func `heads, silence and stalled exchanges have deadlines`() throws {
        let proxy = try Proxy {
            $0.headDeadline = .milliseconds(20)
            $0.idleTimeout = .milliseconds(40)
            $0.exchangeIdleTimeout = .milliseconds(30)
        }
        let slow = proxy.client()
        slow.feed("GET / HTTP/1.1\r\nHos")
        #expect(try proxy.answer(slow, "\r\n\r\n").hasPrefix("HTTP/1.1 408 "))
        let silent = proxy.client()
        try proxy.until("the end of a silent one") { silent.isClosed }
        let stalled = proxy.client()
        stalled.feed(get())
        #expect(try proxy.answer(stalled, "stream timeout").hasPrefix("HTTP/1.1 504 "))
        #expect(proxy.records.first?.flags == .streamIdle)
        try proxy.until("the end of an idle one") { stalled.isClosed }
        #expect(proxy.service.connectionCount == 0)
    }

    @Test func `too many requests at once`() throws {
        let proxy = try Proxy { $0.requestLimit = 1 }
        let (first, second) = (proxy.client(), proxy.client())
        first.feed(get())
        second.feed(get())
        #expect(try proxy.answer(second, "\r\n\r\n").hasPrefix("HTTP/1.1 503 "))
        #expect(proxy.records.first?.flags == .overload)
        try proxy.connection().feed(Self.ok)
        _ = try proxy.answer(first, "hi")
        _ = proxy.connections[0].channel.take()
        second.feed(get())
        _ = try proxy.connection()
    }

    @Test func `more requests than the service takes`() throws {
        let proxy = try Proxy(upstream: { $0.requestLimit = 1 })
        let (first, second) = (proxy.client(), proxy.client())
        first.feed(get())
        second.feed(get())
        let answer = try proxy.answer(second, "overflow")
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("x-envoy-overloaded: true\r\n"))
        #expect(proxy.records.first?.flags == .upstreamOverflow)
        try proxy.connection().feed(Self.ok)
        _ = try proxy.answer(first, "hi")
        #expect(proxy.upstreams[Destination("app.shop")]?.activeRequests == 0)
    }

    @Test func `a client that does not read its answers gets no further ones`() throws {
        let proxy = try Proxy([])
        let client = proxy.client()
        client.capacity = 100
        for _ in 0..<1_000 { client.feed(get()) }
        // One answer waits; the rest of what it said is left to its window.
        #expect(proxy.records.count <= 3 && client.unconsumed > 20_000)
        try proxy.until("all answers") {
            _ = client.take()
            return proxy.records.count == 1_000
        }
        #expect(client.unconsumed == 0)
    }

    @Test func `when the loop's memory is used up an exchange ends, and no other`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.capacity = 1_000
        client.feed(get())
        let server = try proxy.connection()
        var hogs: [UnsafeMutableRawBufferPointer] = unsafe []
        while let hog = unsafe proxy.loop.buffers.take(.huge) { unsafe hogs.append(hog) }
        while let hog = unsafe proxy.loop.buffers.take(.small) { unsafe hogs.append(hog) }
        server.feed("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + String(repeating: "x", count: 5_000))
        #expect(client.aborted != nil && proxy.records.first?.flags == .overload)
        unsafe hogs.forEach { unsafe proxy.loop.buffers.give($0) }
        let next = proxy.client()
        next.feed(get())
        try proxy.connection(1).feed(Self.ok)
        _ = try proxy.answer(next, "hi")
    }

    @Test func `requests that wait for a connection, and idle connections, have limits`() throws {
        let proxy = try Proxy(upstream: {
            $0.pendingLimit = 2
            $0.idleLimit = 1
        })
        let clients = (0..<3).map { _ in proxy.client() }
        for client in clients { client.feed(get()) }
        #expect(clients[2].text.contains("overflow") && proxy.records.first?.flags == .upstreamOverflow)
        for number in 0..<2 { try proxy.connection(number).feed(Self.ok) }
        for client in clients.dropLast() { _ = try proxy.answer(client, "hi") }
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        #expect(
            upstream.idleConnections == 1 && upstream.pendingRequests == 0 && upstream.activeRequests == 0)
    }

    // MARK: Retries

    @Test(arguments: [
        ("5xx", 500, true), ("5xx", 404, false), ("gateway-error", 503, true), ("gateway-error", 500, false),
        ("retriable-4xx", 409, true), ("429", 429, true), ("429", 430, false),
        ("connect-failure", 503, false),
    ]) func `an answer is tried again for what the policy names`(
        conditions: String, status: Int, isRetried: Bool
    ) throws {
        let (parsed, statuses) = try RetryConditions.parse(conditions)
        let proxy = try Proxy(
            forwarding { $0.retries = RetryPolicy(attempts: 1, conditions: parsed, statuses: statuses) },
            endpoints: 2)
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        let first = try proxy.connection()
        #expect(first.text.hasSuffix("\r\n\r\nbody"))
        first.feed("HTTP/1.1 \(status) X\r\nContent-Length: 3\r\n\r\nbad")
        guard isRetried else {
            #expect(try proxy.answer(client, "bad").hasPrefix("HTTP/1.1 \(status) "))
            return
        }
        let second = try proxy.connection(1)
        #expect(second.text.hasSuffix("\r\n\r\nbody") && second.text.contains("x-envoy-attempt-count: 2\r\n"))
        second.feed("HTTP/1.1 \(status) X\r\nContent-Length: 5\r\n\r\nworse")
        #expect(try proxy.answer(client, "worse").hasPrefix("HTTP/1.1 \(status) "))
        #expect(proxy.records.first?.flags == .retryLimit)
    }

    @Test func `an endpoint that cannot be reached is followed by one that can`() throws {
        let proxy = try Proxy(endpoints: 2)
        proxy.unreachable = ["app.shop-1"]
        let client = proxy.client()
        client.feed(get())
        let server = try proxy.connection()
        #expect(proxy.connections[0].endpoint.id == "app.shop-0")
        server.feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        #expect(proxy.records.first?.attempts == 2 && proxy.records[0].flags.isEmpty)
    }

    @Test func `when every try fails, the answer says so`() throws {
        let proxy = try Proxy(endpoints: 2)
        proxy.unreachable = ["app.shop-0", "app.shop-1"]
        let client = proxy.client()
        client.feed(get())
        let answer = try proxy.answer(client, "retried and the latest reset reason: connection failure")
        #expect(answer.hasPrefix("HTTP/1.1 503 "))
        #expect(
            proxy.records.first?.flags == [.upstreamConnectFailure, .retryLimit]
                && proxy.records[0].attempts == 3)
    }

    @Test func `content beyond what is kept is not tried again`() throws {
        let (conditions, statuses) = try RetryConditions.parse("5xx")
        let proxy = try Proxy(
            forwarding { $0.retries = RetryPolicy(attempts: 3, conditions: conditions, statuses: statuses) }
        ) { $0.retryBuffer = 10 }
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n0123456789")
        let server = try proxy.connection()
        client.feed("0123456789")
        #expect(server.text.hasSuffix("\r\n\r\n01234567890123456789"))
        server.feed("HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad")
        #expect(try proxy.answer(client, "bad").hasPrefix("HTTP/1.1 500 "))
        #expect(proxy.connections.count == 1 && client.unconsumed == 0)
    }

    @Test func `a kept connection that ends under a safe request costs nothing but another`() throws {
        let proxy = try Proxy { $0.defaultRetries = RetryPolicy(attempts: 0) }
        let client = proxy.client()
        client.feed(get())
        let server = try proxy.connection()
        server.feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        client.feed(get())
        server.endInput()
        try proxy.connection(1).feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        proxy.connections[1].channel.endInput()
        #expect(try proxy.answer(client, "connection termination").hasPrefix("HTTP/1.1 503 "))
    }

    @Test func `pauses double up to ten times the base, and are random`() {
        let policy = RetryPolicy(attempts: 9)
        let last = UInt64.max - UInt64.max % 25_000_000 - 1
        #expect(policy.pause(before: 1, random: 24_999_999) == .nanoseconds(24_999_999))
        #expect(policy.pause(before: 1, random: 25_000_000) == .zero)
        #expect(policy.pause(before: 3, random: 99_999_999) == .nanoseconds(99_999_999))
        for attempt in 1...20 { #expect(policy.pause(before: attempt, random: last) < .milliseconds(250)) }
    }

    // MARK: Mirrors

    @Test func `a mirror gets a copy, and its answer goes nowhere`() throws {
        let proxy = try Proxy(
            forwarding {
                $0.mirrors = [Mirror(Destination("other.shop")), Mirror(Destination("nobody.shop"))]
            })
        let client = proxy.client()
        client.feed("POST /x HTTP/1.1\r\nHost: app:8080\r\nContent-Length: 4\r\n\r\nbo")
        try proxy.until("both") {
            proxy.connections.count == 2 && proxy.connections.allSatisfy { $0.channel.text.hasSuffix("bo") }
        }
        client.feed("dy")
        let shadow = try #require(proxy.connections.first { $0.endpoint.id == "other.shop-0" }).channel
        let server = try #require(proxy.connections.first { $0.endpoint.id == "app.shop-0" }).channel
        #expect(
            shadow.text.hasPrefix("POST /x HTTP/1.1\r\nhost: app-shadow:8080\r\n")
                && shadow.text.hasSuffix("\r\n\r\nbody"))
        #expect(server.text.hasSuffix("\r\n\r\nbody"))
        shadow.feed("HTTP/1.1 500 X\r\nContent-Length: 6\r\n\r\nshadow")
        server.feed(Self.ok)
        #expect(try !proxy.answer(client, "hi").contains("shadow"))
        #expect(proxy.records.count == 1 && shadow.unconsumed == 0)
        #expect(proxy.upstreams[Destination("other.shop")]?.idleConnections == 1)
    }

    @Test func `a mirror that falls behind is given up`() throws {
        let proxy = try Proxy(forwarding { $0.mirrors = [Mirror(Destination("other.shop"))] }) {
            $0.mirrorBuffer = 1_000
        }
        proxy.silent = ["other.shop-0"]
        let client = proxy.client()
        client.feed(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n"
                + String(repeating: "x", count: 2_000))
        try proxy.connection().feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        #expect(proxy.upstreams[Destination("other.shop")]?.activeRequests == 0)
        #expect(proxy.upstreams[Destination("other.shop")]?.pendingRequests == 0)
        #expect(proxy.loop.buffers.borrowedBytes == 0)
    }

    // MARK: Connections

    @Test func `a connection takes as many requests as it may`() throws {
        let proxy = try Proxy(upstream: { $0.requestsPerConnection = 2 })
        let client = proxy.client()
        for number in 0..<4 {
            client.feed(get())
            let server = try proxy.connection(number / 2)
            #expect(server.takeText().contains("connection: close") == (number % 2 == 1))
            server.feed(Self.ok)
            _ = try proxy.answer(client, "hi")
            #expect(server.isClosed == (number % 2 == 1))
        }
    }

    @Test func `endpoints that leave take no more requests, and finish what they have`() throws {
        let proxy = try Proxy(endpoints: 1)
        let client = proxy.client()
        client.feed(get())
        let server = try proxy.connection()
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        upstream.update([])
        server.feed(Self.ok)
        _ = try proxy.answer(client, "hi")
        #expect(server.isClosed)
        client.feed(get())
        #expect(try proxy.answer(client, "no healthy upstream").hasPrefix("HTTP/1.1 503 "))
    }

    @Test func `draining answers what is under way and takes nothing more`() throws {
        let proxy = try Proxy()
        let (busy, idle) = (proxy.client(), proxy.client())
        busy.feed(get())
        let server = try proxy.connection()
        idle.feed(get())
        try proxy.connection(1).feed(Self.ok)
        _ = try proxy.answer(idle, "hi")
        proxy.service.drain()
        #expect(idle.isClosed)
        server.feed(Self.ok)
        #expect(try proxy.answer(busy, "hi").contains("connection: close\r\n"))
        #expect(busy.isClosed && proxy.service.connectionCount == 0)
    }

    @Test func `endpoints by load, and by turns`() throws {
        let proxy = try Proxy(endpoints: 3)
        let upstream = try #require(proxy.upstreams[Destination("app.shop")])
        let ids = (0..<6).compactMap { _ in upstream.choose(avoiding: [], random: { 0 })?.endpoint.id }
        #expect(Set(ids).count == 3 && ids[0] == ids[3])
        #expect(
            upstream.choose(avoiding: ["app.shop-0", "app.shop-1"], random: { 0 })?.endpoint.id
                == "app.shop-2")
        #expect(upstream.choose(avoiding: ["app.shop-0", "app.shop-1", "app.shop-2"], random: { 0 }) != nil)
        let byLoad = try Proxy(endpoints: 2, upstream: { $0.balancing = .leastRequest })
        byLoad.numbers = [0, 1]
        let client = byLoad.client()
        client.feed(get("/", "x-request-id: 1\r\n"))
        _ = try byLoad.connection()
        let other = byLoad.client()
        other.feed(get("/", "x-request-id: 1\r\n"))
        _ = try byLoad.connection(1)
        #expect(byLoad.connections[0].endpoint.id != byLoad.connections[1].endpoint.id)
    }

    // MARK: Detection

    @Test(arguments: [
        ("GET / HTTP/1.1\r\n", Detection.Kind.http1 as Detection.Kind?),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .http2),
        ("PRI * HT", nil), ("PROPFIND ", .http1), ("PRINT ", .http1), ("GE", nil), ("", nil),
        ("\r\nGET / ", .http1),
        ("\u{16}\u{3}\u{1}", .bytes), ("SSH-2.0-x", .bytes), ("get / ", .bytes), (" GET", .bytes),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAA", .bytes),
        ("*3\r\n$3\r\nSET", .bytes), ("\r\n\r\n\r\n\r\n", .bytes),
    ]) func `what the first bytes say`(text: String, kind: Detection.Kind?) {
        #expect(Detection.kind(of: Array(text.utf8)) == kind)
    }

    @Test func `on a port of unknown protocol bytes and silence go through as they are`() throws {
        let proxy = try Proxy(port: .unknown) { $0.detectionDeadline = .milliseconds(10) }
        var early: [[UInt8]] = []
        proxy.service.onBytes = { (channel, _, bytes) in
            channel.consumed(bytes.count)
            early.append(bytes)
        }
        let http = proxy.client()
        http.feed(get())
        try proxy.connection().feed(Self.ok)
        _ = try proxy.answer(http, "hi")
        let ssh = proxy.client()
        ssh.feed("SSH-2.0-client\r\n")
        #expect(early == [Array("SSH-2.0-client\r\n".utf8)] && ssh.isOpen)
        let silent = proxy.client()
        try proxy.until("a silent one") { early.count == 2 }
        #expect(early[1].isEmpty && silent.isOpen && silent.unconsumed == 0)
    }
}
