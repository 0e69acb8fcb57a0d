import EventLoop
import HTTP2
import Routing
import Testing
import Tunnel

@testable import L7

struct HTTP1ProxyTests {
    static let get = "GET /a?b=c HTTP/1.1\r\nHost: app\r\nX-Mine: 1\r\n\r\n"
    static let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: mine\r\n\r\nhi"

    @Test func `a request goes through with its fields, and so does its answer`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(Self.get)
        let server = try proxy.connection()
        let request = server.takeText()
        #expect(request.hasPrefix("GET /a?b=c HTTP/1.1\r\nhost: app\r\n"))
        #expect(request.contains("x-mine: 1\r\n") && request.contains("x-forwarded-proto: http\r\n"))
        #expect(
            request.contains("x-envoy-attempt-count: 1\r\n")
                && request.contains("x-request-id: 00000000-0000-4000-8000-000000000000\r\n"))
        server.feed(Self.ok)
        let answer = try proxy.answer(client, "hi")
        #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.hasSuffix("\r\n\r\nhi"))
        #expect(
            answer.contains("server: istio-envoy\r\n") && answer.contains("x-envoy-upstream-service-time: "))
        #expect(proxy.records.count == 1 && proxy.records[0].status == 200 && proxy.records[0].flags.isEmpty)
        #expect(client.unconsumed == 0 && server.unconsumed == 0 && client.isOpen && server.isOpen)
    }

    @Test func `a connection to an endpoint is used again`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        for round in 0..<5 {
            client.feed(Self.get)
            let server = try proxy.connection()
            _ = server.takeText()
            server.feed(Self.ok)
            _ = try proxy.answer(client, "hi")
            #expect(proxy.records.count == round + 1)
        }
        #expect(
            proxy.connections.count == 1 && proxy.upstreams[Destination("app.shop")]?.idleConnections == 1)
    }

    @Test func `pipelined requests are answered in order, one at a time`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        let server = try proxy.connection()
        var answers = ""
        for number in 1...3 {
            try proxy.until("request \(number)") { !server.written.isEmpty }
            let request = server.takeText()
            #expect(request.hasPrefix("GET /\(number) ") && !request.contains("/\(number + 1)"))
            server.feed("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\(number)")
            answers += client.takeText().suffix(1)
        }
        #expect(answers == "123" && client.unconsumed == 0)
    }

    @Test(arguments: [1, 7, 100_000]) func `content passes both ways in any pieces`(size: Int) throws {
        let proxy = try Proxy()
        let client = proxy.client()
        let content = String(repeating: "0123456789", count: 20_000)
        let request = Array(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n\(content)\r\n0\r\nX-T: 1\r\n\r\n"
                .utf8)
        var got = ""
        var offset = 0
        while offset < request.count {
            let end = min(offset + size, request.count)
            client.feed(Array(request[offset..<end]))
            offset = end
            if let server = proxy.connections.first?.channel { got += server.takeText() }
        }
        try proxy.until("the request") {
            if let server = proxy.connections.first?.channel { got += server.takeText() }
            return got.hasSuffix("\r\n\r\n") && got.contains("0\r\nx-t: 1\r\n\r\n")
        }
        #expect(got.contains("transfer-encoding: chunked"))
        #expect(Self.dechunked(got) == content)
        let server = proxy.connections[0].channel
        for piece in Array("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n\(content)".utf8).chunked(size) {
            server.feed(piece)
        }
        let answer = client.takeText()
        #expect(answer.hasSuffix("\r\n\r\n\(content)") && answer.contains("content-length: 200000\r\n"))
        #expect(proxy.records.first?.bytesReceived == 200_000 && proxy.records.first?.bytesSent == 200_000)
        #expect(client.unconsumed == 0 && server.unconsumed == 0)
    }

    /// The content of a message in chunks.
    static func dechunked(_ text: String) -> String {
        let bytes = Array(text.utf8)
        func end(of mark: String, from start: Int) -> Int? {
            let mark = Array(mark.utf8)
            guard bytes.count >= start + mark.count else { return nil }
            return (start...(bytes.count - mark.count)).first {
                bytes[$0..<$0 + mark.count].elementsEqual(mark)
            }
            .map { $0 + mark.count }
        }
        var result: [UInt8] = []
        var place = end(of: "\r\n\r\n", from: 0) ?? bytes.count
        while let line = end(of: "\r\n", from: place),
            let size = Int(String(decoding: bytes[place..<line - 2], as: UTF8.self), radix: 16), size > 0
        {
            result += bytes[line..<line + size]
            place = line + size + 2
        }
        return String(decoding: result, as: UTF8.self)
    }

    @Test func `a slow client stops the endpoint, and a slow endpoint the client`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.capacity = 10_000
        client.feed(Self.get)
        let server = try proxy.connection()
        _ = server.take()
        let block = [UInt8](repeating: 0x61, count: 50_000)
        server.feed("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        server.feed(block)
        server.feed(block)
        // What the client has not taken is still owed.
        #expect(server.unconsumed > 80_000)
        var got: [UInt8] = []
        try proxy.until("everything") {
            got += client.take()
            return got.count > 100_000 && proxy.records.count == 1
        }
        got += client.take()
        #expect(got.filter { $0 == 0x61 }.count >= 100_000 && server.unconsumed == 0)

        // And the other way, beyond what is kept for another try.
        client.capacity = .max
        server.capacity = 5_000
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        for _ in 0..<6 { client.feed(block) }
        #expect(client.unconsumed > 200_000)
        var sent = 0
        try proxy.until("the whole request") {
            sent += server.take().filter { $0 == 0x61 }.count
            return sent >= 300_000
        }
        #expect(client.unconsumed == 0)
        server.capacity = .max
        server.feed(Self.ok)
        _ = try proxy.answer(client, "hi")
    }

    @Test func `no route, no service, no endpoint`() throws {
        let none = try Proxy([])
        let first = none.client()
        first.feed(Self.get)
        #expect(first.takeText().hasPrefix("HTTP/1.1 404 Not Found\r\n"))
        #expect(none.records.first?.flags == .noRoute && "\(none.records[0].flags)" == "NR")

        let unknown = try Proxy(forwarding { $0.destinations = [.init(Destination("nobody.shop"))] })
        let second = unknown.client()
        second.feed(Self.get)
        #expect(second.takeText().hasPrefix("HTTP/1.1 503 ") && unknown.records.first?.flags == .noCluster)

        let empty = try Proxy(endpoints: 0)
        let third = empty.client()
        third.feed(Self.get)
        let answer = third.takeText()
        #expect(
            answer.hasPrefix("HTTP/1.1 503 Service Unavailable\r\n")
                && answer.hasSuffix("no healthy upstream"))
        #expect(empty.records.first?.flags == .noHealthyUpstream && third.isOpen)
    }

    @Test func `an endpoint that cannot be reached`() throws {
        let proxy = try Proxy { $0.defaultRetries = RetryPolicy(attempts: 0) }
        proxy.unreachable = ["app.shop-0"]
        let client = proxy.client()
        client.feed(Self.get)
        let answer = try proxy.answer(client, "connection failure")
        #expect(answer.hasPrefix("HTTP/1.1 503 "))
        #expect(
            answer.hasSuffix(
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure")
        )
        #expect(proxy.records.first?.flags == .upstreamConnectFailure)
    }

    @Test func `an endpoint that breaks before and within its answer`() throws {
        let proxy = try Proxy { $0.defaultRetries = RetryPolicy(attempts: 0) }
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        try proxy.connection().drop()
        let answer = try proxy.answer(client, "connection termination")
        #expect(answer.hasPrefix("HTTP/1.1 503 ") && proxy.records.first?.flags == .upstreamTermination)

        client.feed(Self.get)
        try proxy.connection(1).feed("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        _ = try proxy.answer(client, "half")
        proxy.connections[1].channel.drop()
        #expect(!client.isOpen && client.aborted != nil)
        #expect(proxy.records.last?.flags == .upstreamTermination)
    }

    @Test func `an endpoint that speaks no HTTP`() throws {
        let proxy = try Proxy { $0.defaultRetries = RetryPolicy(attempts: 0) }
        let client = proxy.client()
        client.feed(Self.get)
        try proxy.connection().feed("220 mail.example ESMTP\r\n")
        let answer = try proxy.answer(client, "protocol error")
        #expect(answer.hasPrefix("HTTP/1.1 502 ") && proxy.records.first?.flags == .upstreamProtocolError)
        #expect(proxy.connections[0].channel.aborted != nil)
    }

    @Test func `a client that goes away takes its request along`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(Self.get)
        let server = try proxy.connection()
        client.drop()
        #expect(!server.isOpen)
        #expect(proxy.records.first?.flags == .downstreamTermination && proxy.records.first?.status == 0)
        #expect(proxy.service.connectionCount == 0)
    }

    @Test func `a client that half-closes is answered`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(Self.get)
        client.endInput()
        let server = try proxy.connection()
        server.feed(Self.ok)
        let answer = try proxy.answer(client, "hi")
        #expect(answer.contains("connection: close\r\n") && client.isClosed)
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
        "GET http://x/ HTTP/1.1\r\nHost: y\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
    ]) func `what could be read in two ways is refused and never forwarded`(request: String) throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(request)
        let answer = try proxy.answer(client, "\r\n\r\n")
        #expect(answer.hasPrefix("HTTP/1.1 400 ") || answer.hasPrefix("HTTP/1.1 501 "), "\(answer)")
        #expect(answer.contains("connection: close\r\n"))
        try proxy.until("the end") { client.isClosed }
        #expect(proxy.connections.isEmpty)
    }

    @Test func `a chunk that is malformed ends the request at the endpoint too`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        let server = try proxy.connection()
        client.feed("zz\r\n")
        #expect(client.takeText().hasPrefix("HTTP/1.1 400 "))
        #expect(
            server.aborted != nil && client.isClosed && proxy.records.first?.flags == .downstreamProtocolError
        )
    }

    @Test func `an early answer is passed on, and the connection it came on is not used again`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf.")
        let server = try proxy.connection()
        server.feed("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        let answer = try proxy.answer(client, "no")
        #expect(answer.hasPrefix("HTTP/1.1 413 "))
        #expect(server.isClosed)
        client.feed("rest.")
        client.feed(Self.get)
        try proxy.connection(1).feed(Self.ok)
        _ = try proxy.answer(client, "hi")
    }

    @Test func `interim answers pass, and a client that waits for leave gets it`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 100 "))
        client.feed("ok")
        let server = try proxy.connection()
        #expect(!server.takeText().contains("expect"))
        server.feed("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + Self.ok)
        let answer = try proxy.answer(client, "hi")
        #expect(
            answer.hasPrefix("HTTP/1.1 103 ") && answer.contains("link: </x>")
                && answer.contains("HTTP/1.1 200 OK"))
    }

    @Test func `a changed protocol is bytes both ways, each direction with its own end`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
        )
        let server = try proxy.connection()
        let request = server.takeText()
        #expect(
            request.hasPrefix("GET /chat ")
                && request.contains("upgrade: websocket\r\nconnection: upgrade\r\n"))
        server.feed(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s\r\n\r\nfirst"
        )
        let answer = try proxy.answer(client, "first")
        #expect(
            answer.hasPrefix("HTTP/1.1 101 ") && answer.contains("sec-websocket-accept: s\r\n")
                && answer.hasSuffix("\r\n\r\nfirst"))
        client.feed("to the server")
        #expect(server.takeText() == "to the server")
        server.feed("to the client")
        #expect(client.takeText() == "to the client")
        client.endInput()
        #expect(server.isLocalEnded && server.isOpen)
        server.feed("last")
        server.endInput()
        #expect(client.takeText() == "last" && client.isLocalEnded)
        try proxy.until("the record") { proxy.records.count == 1 }
        #expect(proxy.records[0].status == 101 && client.unconsumed == 0 && server.unconsumed == 0)
    }

    @Test func `a changed protocol that the server ends first`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        let server = try proxy.connection()
        server.feed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        server.endInput()
        #expect(client.isLocalEnded && client.isOpen && proxy.records.isEmpty)
        client.feed("bye")
        client.endInput()
        #expect(server.text.hasSuffix("bye") && server.isLocalEnded)
        #expect(proxy.records.count == 1 && proxy.records.first?.flags.isEmpty == true)
    }

    @Test func `an answer that is whole arrives whatever its connection does then`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.capacity = 1_000
        client.feed(Self.get)
        let server = try proxy.connection()
        server.feed("HTTP/1.0 200 OK\r\n\r\n" + String(repeating: "x", count: 20_000))
        server.endInput()
        server.drop()
        var got = ""
        try proxy.until("the whole answer") {
            got += client.takeText()
            return got.hasSuffix("0\r\n\r\n")
        }
        #expect(Self.dechunked(got).count == 20_000 && proxy.records.first?.flags.isEmpty == true)
    }

    @Test func `a change of protocol that is declined is an answer like others`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        try proxy.connection().feed(Self.ok)
        let answer = try proxy.answer(client, "hi")
        #expect(answer.hasPrefix("HTTP/1.1 200 OK") && !answer.contains("upgrade"))
        #expect(proxy.records.count == 1)
    }

    @Test func `CONNECT is refused`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("CONNECT inside:22 HTTP/1.1\r\nHost: inside:22\r\n\r\n")
        #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 403 "))
        #expect(proxy.connections.isEmpty)
    }

    @Test func `HEAD and statuses without content`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        let server = try proxy.connection()
        server.feed("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        #expect(try proxy.answer(client, "\r\n\r\n").contains("content-length: 500\r\n"))
        for status in ["204 No Content", "304 Not Modified"] {
            client.feed(Self.get)
            try proxy.until("a request") { !server.written.isEmpty }
            _ = server.take()
            server.feed("HTTP/1.1 \(status)\r\n\r\n")
            #expect(try proxy.answer(client, "\r\n\r\n").hasPrefix("HTTP/1.1 \(status)\r\n"))
        }
        #expect(proxy.connections.count == 1)
    }

    @Test func `an answer up to the end of its connection`() throws {
        let proxy = try Proxy()
        let client = proxy.client()
        client.feed(Self.get)
        let server = try proxy.connection()
        server.feed("HTTP/1.0 200 OK\r\n\r\nall of it")
        server.endInput()
        let answer = try proxy.answer(client, "0\r\n\r\n")
        #expect(answer.contains("transfer-encoding: chunked") && Self.dechunked(answer) == "all of it")
        #expect(client.isOpen && proxy.upstreams[Destination("app.shop")]?.idleConnections == 0)
    }

    @Test func `paths have one spelling`() throws {
        #expect(
            normalizedPath(Array("/a/../b/%2e%2e/c%2Fd/./e/?x=/../y".utf8)[...]).map {
                String(decoding: $0, as: UTF8.self)
            } == "/c%2Fd/e/?x=/../y")
        #expect(
            normalizedPath(Array("/..\\..\\etc".utf8)[...]).map { String(decoding: $0, as: UTF8.self) }
                == "/etc")
        #expect(normalizedPath(Array("/plain/path.txt?q=1.2".utf8)[...]) == nil)
        #expect(
            normalizedPath(Array("/%61dmin".utf8)[...]).map { String(decoding: $0, as: UTF8.self) }
                == "/admin")
        #expect(normalizedPath(Array("/a/..".utf8)[...]).map { String(decoding: $0, as: UTF8.self) } == "/")
    }
}

extension Array where Element == UInt8 {
    func chunked(_ size: Int) -> [[UInt8]] {
        stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
    }
}
