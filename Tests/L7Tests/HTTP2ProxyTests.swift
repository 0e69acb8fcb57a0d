import EventLoop
import HTTP2
import Linux
import Routing
import Testing
import Tunnel

@testable import L7

/// An HTTP/2 peer that the test plays, at the other end of a memory channel.
final class HTTP2Peer {
    private var machine: HTTP2Connection
    let channel: MemoryChannel
    var heads: [StreamID: HeaderBlock] = [:]
    var interim: [HeaderBlock] = []
    var content: [StreamID: [UInt8]] = [:]
    var trailers: [StreamID: HeaderBlock] = [:]
    var ended: Set<StreamID> = []
    var resets: [StreamID: ErrorCode] = [:]
    var goAways: [ErrorCode] = []
    /// In the order in which they came.
    var streams: [StreamID] = []
    /// Content is consumed as it comes.
    var reads = true
    private var held: [StreamID: Int] = [:]

    init(_ role: HTTP2Connection.Role, _ channel: MemoryChannel, initialWindow: Int = 256 << 10) {
        var configuration = HTTP2Configuration.proxied
        configuration.initialWindow = initialWindow
        machine = HTTP2Connection(role: role, configuration)
        self.channel = channel
    }

    /// Exchanges what waits on both sides.
    func step() throws {
        flush()
        let bytes = channel.take()
        var offset = 0
        try unsafe bytes.withUnsafeBytes { input in
            while let event = try unsafe machine.next(input, &offset) { unsafe take(event, input) }
        }
        flush()
    }

    private func take(_ event: HTTP2Event, _ input: UnsafeRawBufferPointer) {
        switch event {
        case .headers(let id, let head, let endStream):
            if let status = head.status, status < 200 { return interim.append(head) }
            heads[id] = head
            streams.append(id)
            if endStream { ended.insert(id) }
        case .trailers(let id, let block):
            trailers[id] = block
            ended.insert(id)
        case .data(let id, let range, let endStream):
            unsafe content[id, default: []] += input[range]
            if reads { machine.consumed(id, range.count) } else { held[id, default: 0] += range.count }
            if endStream { ended.insert(id) }
        case .reset(let id, let code): resets[id] = code
        case .goAway(_, let code, _): goAways.append(code)
        default: break
        }
    }

    func flush() {
        var out = [UInt8](repeating: 0, count: machine.pending.count)
        let count = unsafe out.withUnsafeMutableBytes { unsafe machine.takeOutput(into: $0) }
        if count > 0 { channel.feed(Array(out.prefix(count))) }
    }

    func consumeHeld() {
        for (id, count) in held { machine.consumed(id, count) }
        held = [:]
        reads = true
    }

    func open(_ head: HeaderBlock, endStream: Bool = true) throws -> StreamID {
        let id = try machine.openStream(head, endStream: endStream)
        flush()
        return id
    }

    func send(_ id: StreamID, head: HeaderBlock, endStream: Bool = false) {
        machine.sendHeaders(id, head, endStream: endStream)
        flush()
    }

    /// - Returns: how many bytes the windows took.
    @discardableResult
    func send(_ id: StreamID, _ bytes: [UInt8], endStream: Bool = false) -> Int {
        flush()
        var sent = 0
        repeat {
            let count = min(bytes.count - sent, machine.sendable(id))
            guard count > 0 || bytes.isEmpty else { return sent }
            var frame = [UInt8](repeating: 0, count: 9)
            unsafe frame.withUnsafeMutableBytes {
                unsafe machine.frameData(
                    id, byteCount: count, endStream: endStream && sent + count == bytes.count, header: $0)
            }
            channel.feed(frame + bytes[sent..<sent + count])
            sent += count
        } while sent < bytes.count
        return sent
    }

    func reset(_ id: StreamID, _ code: ErrorCode) {
        machine.reset(id, code)
        flush()
    }

    func goAway() {
        machine.goAway(.noError)
        flush()
    }
}

struct HTTP2ProxyTests {
    static func request(_ path: String = "/", _ fields: [(String, String)] = [], method: String = "GET")
        -> HeaderBlock
    {
        var head = HeaderBlock(method: method, scheme: "http", authority: "app", path: path)
        for field in fields { head.append(field.0, field.1) }
        return head
    }

    /// A client of HTTP/2, and an endpoint once a request has come.
    private func client(_ proxy: Proxy, window: Int = 256 << 10) -> HTTP2Peer {
        HTTP2Peer(.client, proxy.client(), initialWindow: window)
    }

    private func endpoint(_ proxy: Proxy, _ client: HTTP2Peer, _ number: Int = 0) throws -> HTTP2Peer {
        try proxy.until("a connection") {
            try client.step()
            return proxy.connections.count > number
        }
        let server = HTTP2Peer(.server, proxy.connections[number].channel)
        try until(proxy, client, server, "a request") { !server.streams.isEmpty }
        return server
    }

    private func until(
        _ proxy: Proxy, _ client: HTTP2Peer, _ server: HTTP2Peer?, _ what: String, _ condition: () -> Bool
    ) throws {
        try proxy.until(what) {
            try client.step()
            try server?.step()
            return condition()
        }
    }

    @Test func `a call goes through whole, with trailers`() throws {
        let proxy = try Proxy(http2: true)
        let client = client(proxy)
        let id = try client.open(
            Self.request("/s/M", [("content-type", "application/grpc"), ("te", "trailers")], method: "POST"),
            endStream: false)
        client.send(id, Array("question".utf8), endStream: true)
        let server = try endpoint(proxy, client)
        try until(proxy, client, server, "the whole request") { !server.ended.isEmpty }
        let other = server.streams[0]
        #expect(server.heads[other]?.path == "/s/M" && server.heads[other]?["te"] == "trailers")
        #expect(server.content[other] == Array("question".utf8))
        server.send(other, head: [Header(":status", "200"), Header("content-type", "application/grpc")])
        server.send(other, Array("answer".utf8))
        server.send(other, head: [Header("grpc-status", "0")], endStream: true)
        try until(proxy, client, server, "the answer") { client.ended.contains(id) }
        #expect(client.heads[id]?.status == 200 && client.content[id] == Array("answer".utf8))
        #expect(client.trailers[id]?["grpc-status"] == "0" && proxy.records.first?.grpcStatus == 0)
        #expect(proxy.records.first?.version == .http2 && client.resets.isEmpty && server.resets.isEmpty)
    }

    @Test func `many requests share one connection to the endpoint`() throws {
        let proxy = try Proxy(http2: true)
        let client = client(proxy)
        let ids = try (0..<50).map { try client.open(Self.request("/\($0)")) }
        let server = try endpoint(proxy, client)
        try until(proxy, client, server, "all requests") { server.streams.count == 50 }
        for id in server.streams.reversed() {
            server.send(id, head: HeaderBlock(status: 200))
            server.send(id, Array((server.heads[id]?.path ?? "").utf8), endStream: true)
        }
        try until(proxy, client, server, "all answers") { client.ended.count == 50 }
        for (number, id) in ids.enumerated() { #expect(client.content[id] == Array("/\(number)".utf8)) }
        #expect(proxy.connections.count == 1 && proxy.records.count == 50)
    }

    @Test(arguments: [true, false]) func `one HTTP to the client, the other to the endpoint`(
        isClientHTTP2: Bool
    ) throws {
        let proxy = try Proxy(http2: !isClientHTTP2)
        if isClientHTTP2 {
            let client = client(proxy)
            let id = try client.open(
                Self.request("/up", [("cookie", "a=1"), ("cookie", "b=2")], method: "POST"), endStream: false)
            client.send(id, Array("content".utf8), endStream: true)
            try proxy.until("a request") {
                try client.step()
                return proxy.connections.first?.channel.text.hasSuffix("0\r\n\r\n") == true
            }
            let server = proxy.connections[0].channel
            let text = server.takeText()
            #expect(
                text.hasPrefix("POST /up HTTP/1.1\r\nhost: app\r\n") && text.contains("cookie: a=1; b=2\r\n"))
            server.feed(
                "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n")
            try until(proxy, client, nil, "an answer") { client.ended.contains(id) }
            #expect(client.heads[id]?.status == 201 && client.content[id] == Array("ok".utf8))
            #expect(
                client.heads[id]?.contains("transfer-encoding") == false && client.trailers[id]?["x-t"] == "1"
            )
        } else {
            let client = proxy.client()
            client.feed("POST /down HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi")
            try proxy.until("a connection") { !proxy.connections.isEmpty }
            let server = HTTP2Peer(.server, proxy.connections[0].channel)
            try proxy.until("a request") {
                try server.step()
                return !server.ended.isEmpty
            }
            let id = server.streams[0]
            #expect(server.heads[id]?.authority == "app" && server.heads[id]?["content-length"] == "2")
            server.send(id, head: HeaderBlock(status: 200))
            server.send(id, Array("there".utf8), endStream: true)
            let answer = try proxy.answer(client, "0\r\n\r\n")
            #expect(
                answer.contains("transfer-encoding: chunked") && HTTP1ProxyTests.dechunked(answer) == "there")
        }
    }

    @Test func `a reader that stops stops its own stream and no other`() throws {
        let proxy = try Proxy(http2: true)
        let client = client(proxy, window: 65_535)
        client.reads = false
        let slow = try client.open(Self.request("/slow"))
        let server = try endpoint(proxy, client)
        let first = server.streams[0]
        server.send(first, head: HeaderBlock(status: 200))
        let block = [UInt8](repeating: 1, count: 4_000_000)
        var sent = server.send(first, block)
        for _ in 0..<50 {
            proxy.loop.turn(waitingAtMost: .zero)
            try client.step()
            try server.step()
            sent += server.send(first, Array(block[sent...]))
        }
        // The client's window and the proxy's, and nothing more.
        #expect(sent >= 65_535 && sent <= 65_535 + (512 << 10), "\(sent)")
        let quick = try client.open(Self.request("/quick"))
        try until(proxy, client, server, "another request") { server.streams.count == 2 }
        server.send(server.streams[1], head: HeaderBlock(status: 204), endStream: true)
        try until(proxy, client, server, "its answer") { client.ended.contains(quick) }
        client.consumeHeld()
        try until(proxy, client, server, "everything") {
            if sent < block.count { sent += server.send(first, Array(block[sent...]), endStream: true) }
            return client.ended.contains(slow)
        }
        #expect(client.content[slow]?.count == block.count)
    }

    @Test func `resets pass both ways`() throws {
        let proxy = try Proxy(http2: true) { $0.defaultRetries = RetryPolicy(attempts: 0) }
        let client = client(proxy)
        let first = try client.open(Self.request(), endStream: false)
        let server = try endpoint(proxy, client)
        client.reset(first, .cancel)
        try until(proxy, client, server, "the reset") { server.resets[server.streams[0]] == .cancel }
        #expect(proxy.records.first?.flags == .downstreamTermination)
        let second = try client.open(Self.request())
        try until(proxy, client, server, "a request") { server.streams.count == 2 }
        server.send(server.streams[1], head: HeaderBlock(status: 200))
        server.send(server.streams[1], [1])
        try until(proxy, client, server, "a byte") { client.content[second] == [1] }
        server.reset(server.streams[1], .internalError)
        try until(proxy, client, server, "the other reset") { client.resets[second] != nil }
        #expect(proxy.records.last?.flags == .upstreamReset)
        let third = try client.open(Self.request())
        try until(proxy, client, server, "a request") { server.streams.count == 3 }
        server.reset(server.streams[2], .internalError)
        try until(proxy, client, server, "an answer") { client.ended.contains(third) }
        #expect(client.heads[third]?.status == 503)
        #expect(
            String(decoding: client.content[third] ?? [], as: UTF8.self).hasSuffix(
                "reset reason: remote reset"))
    }

    @Test func `what an endpoint refuses goes to another by itself`() throws {
        let proxy = try Proxy(endpoints: 2, http2: true)
        let client = client(proxy)
        let id = try client.open(Self.request())
        let first = try endpoint(proxy, client)
        first.reset(first.streams[0], .refusedStream)
        let second = try endpoint(proxy, client, 1)
        second.send(second.streams[0], head: HeaderBlock(status: 200), endStream: true)
        try until(proxy, client, second, "an answer") { client.ended.contains(id) }
        #expect(client.heads[id]?.status == 200 && proxy.records.first?.attempts == 2)
    }

    @Test func `an endpoint that leaves finishes what it has, and the next request finds a new connection`()
        throws
    {
        let proxy = try Proxy(http2: true)
        let client = client(proxy)
        let first = try client.open(Self.request())
        let server = try endpoint(proxy, client)
        server.goAway()
        let second = try client.open(Self.request())
        let next = try endpoint(proxy, client, 1)
        next.send(next.streams[0], head: HeaderBlock(status: 200), endStream: true)
        server.send(server.streams[0], head: HeaderBlock(status: 204), endStream: true)
        try proxy.until("both answers") {
            try client.step()
            try server.step()
            try next.step()
            return client.ended.isSuperset(of: [first, second])
        }
        #expect(client.heads[first]?.status == 204 && client.heads[second]?.status == 200)
        try proxy.until("the end of the old one") { proxy.connections[0].channel.isClosed }
    }

    @Test func `an answer of ours to gRPC is a head alone`() throws {
        let proxy = try Proxy(endpoints: 0, http2: true)
        let client = client(proxy)
        let id = try client.open(
            Self.request("/s/M", [("content-type", "application/grpc+proto")], method: "POST"),
            endStream: false)
        try until(proxy, client, nil, "an answer") { client.ended.contains(id) }
        let head = try #require(client.heads[id])
        #expect(
            head.status == 200 && head["grpc-status"] == "14" && head["grpc-message"] == "no healthy upstream"
        )
        #expect(head["content-type"] == "application/grpc" && client.content[id] == nil)
        // RFC 9113 §8.1: the rest of the request is not wanted.
        try until(proxy, client, nil, "that it need not go on") { client.resets[id] == .noError }
        #expect(proxy.records.first?.status == 200 && proxy.records.first?.grpcStatus == 14)
    }

    @Test(arguments: [
        ("unavailable", "14"), ("cancelled", "1"), ("internal", "13"), ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
    ])
    func `statuses of gRPC are tried again`(condition: String, status: String) throws {
        let (conditions, _) = try RetryConditions.parse(condition)
        let proxy = try Proxy(
            forwarding { $0.retries = RetryPolicy(attempts: 1, conditions: conditions) }, http2: true)
        let client = client(proxy)
        let id = try client.open(Self.request("/s/M", [("content-type", "application/grpc")], method: "POST"))
        let server = try endpoint(proxy, client)
        server.send(
            server.streams[0], head: [Header(":status", "200"), Header("grpc-status", status)],
            endStream: true)
        try until(proxy, client, server, "another try") { server.streams.count == 2 }
        server.send(
            server.streams[1], head: [Header(":status", "200"), Header("grpc-status", "0")], endStream: true)
        try until(proxy, client, server, "an answer") { client.ended.contains(id) }
        #expect(client.heads[id]?["grpc-status"] == "0")
    }

    @Test func `a client that breaks HTTP/2's rules is told and let go, and its requests with it`() throws {
        let proxy = try Proxy(http2: true)
        let client = client(proxy)
        _ = try client.open(Self.request(), endStream: false)
        let server = try endpoint(proxy, client)
        // A frame on stream 0 that has none there.
        client.channel.feed([0, 0, 1, 0, 0, 0, 0, 0, 0, 9])
        try until(proxy, client, server, "a reset") { !server.resets.isEmpty }
        try client.step()
        #expect(
            client.goAways == [.protocolError] && client.channel.isClosed
                && proxy.service.connectionCount == 0)
    }

    @Test func `a connection that ends takes its requests along`() throws {
        let proxy = try Proxy(http2: true) { $0.defaultRetries = RetryPolicy(attempts: 0) }
        let client = client(proxy)
        let ids = try (0..<3).map { _ in try client.open(Self.request()) }
        let server = try endpoint(proxy, client)
        try until(proxy, client, server, "all requests") { server.streams.count == 3 }
        proxy.connections[0].channel.drop()
        try until(proxy, client, nil, "answers") { client.ended.count == 3 }
        for id in ids { #expect(client.heads[id]?.status == 503) }
        #expect(proxy.records.allSatisfy { $0.flags == .upstreamTermination })
        #expect(proxy.upstreams[Destination("app.shop")]?.activeRequests == 0)
    }

    @Test func `a client that does not read its answers is not read either`() throws {
        let proxy = try Proxy([], http2: true)
        let channel = proxy.client()
        channel.capacity = 1_000
        channel.feed(Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0])
        // GET http://a/, answered at once, so that there are never too many; a client that counts need not read to know.
        func request(_ number: Int) -> [UInt8] {
            let id = UInt32(2 * number + 1)
            let place = (0..<4).map { UInt8(truncatingIfNeeded: id >> (24 - 8 * UInt32($0))) }
            return [0, 0, 6, 1, 5] + place + [0x82, 0x86, 0x84, 0x41, 1, 0x61]
        }
        var count = 0
        while channel.unconsumed == 0, count < 100_000 {
            channel.feed(request(count))
            count += 1
            if count % 50 == 0 { proxy.loop.turn(waitingAtMost: .zero) }
        }
        #expect(count < 100_000, "it is read on and on")
        try proxy.until("that it is read again") {
            _ = channel.take()
            return channel.unconsumed == 0
        }
        #expect(proxy.records.count == count && channel.isOpen)
    }

    @Test func `a WebSocket of HTTP/2 reaches a server of HTTP/1`() throws {
        let proxy = try Proxy()
        let client = client(proxy)
        // The proxy's SETTINGS, which allow it (RFC 8441 §3).
        try client.step()
        let id = try client.open(
            [
                Header(":method", "CONNECT"), Header(":protocol", "websocket"), Header(":scheme", "http"),
                Header(":path", "/chat"), Header(":authority", "app"), Header("sec-websocket-version", "13"),
            ], endStream: false)
        try proxy.until("a request") {
            try client.step()
            return proxy.connections.first?.channel.text.hasSuffix("\r\n\r\n") == true
        }
        let server = proxy.connections[0].channel
        let request = server.takeText()
        #expect(request.hasPrefix("GET /chat HTTP/1.1\r\n") && request.contains("upgrade: websocket\r\n"))
        server.feed(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
        try until(proxy, client, nil, "the first bytes") { client.content[id] == Array("hello".utf8) }
        #expect(client.heads[id]?.status == 200)
        client.send(id, Array("answer".utf8), endStream: true)
        try until(proxy, client, nil, "the client's") { server.text == "answer" && server.isLocalEnded }
        server.endInput()
        try until(proxy, client, nil, "the end") { client.ended.contains(id) }
        #expect(
            proxy.records.count == 1 && proxy.records.first?.status == 101 && proxy.records[0].flags.isEmpty)
    }

    @Test func `draining lets what is under way end`() throws {
        let proxy = try Proxy(http2: true)
        let client = client(proxy)
        let id = try client.open(Self.request())
        let server = try endpoint(proxy, client)
        proxy.service.drain()
        try until(proxy, client, server, "a GOAWAY") { client.goAways.contains(.noError) }
        server.send(server.streams[0], head: HeaderBlock(status: 200), endStream: true)
        try until(proxy, client, server, "the answer and the end") {
            client.ended.contains(id) && client.channel.isClosed
        }
    }
}
