import HTTP1
import HTTP2
import HTTPTranslation
import Testing

private func fields(_ all: [(String, String)]) -> FieldBlock {
    var block = FieldBlock()
    for (name, value) in all { block.append(name, value) }
    return block
}

private func lines(_ block: HeaderBlock) -> [String] { block.map { "\($0.name): \($0.value)" } }

private func lines(_ block: FieldBlock) -> [String] {
    (0..<block.count).map {
        String(decoding: block.name(at: $0), as: UTF8.self) + ": "
            + String(decoding: block.value(at: $0), as: UTF8.self)
    }
}

private func request(_ method: String, _ target: String, _ all: [(String, String)]) -> HTTP1RequestHead {
    HTTP1RequestHead(method: method, target: Array(target.utf8), fields: fields(all))
}

struct TranslationTests {
    @Test func `a request of HTTP/1 becomes a block without what was its connection's`() throws {
        let head = request(
            "POST", "/a?b",
            [
                ("A", "1"), ("host", "h:81"), ("connection", "x, te"), ("x", "y"), ("te", "trailers, gzip"),
                ("keep-alive", "5"),
                ("transfer-encoding", "chunked"), ("cookie", "a=b; c=d"), ("proxy-connection", "z"),
                ("http2-settings", "z"),
            ])
        #expect(
            lines(try HeaderBlock(head, scheme: "https")) == [
                ":method: POST", ":scheme: https", ":path: /a?b", ":authority: h:81", "a: 1",
                "cookie: a=b; c=d", "te: trailers",
            ])
    }

    @Test(arguments: [
        ("GET", "http://H/a?b", ["GET", "/a?b", "H"]), ("GET", "HTTPS://h", ["GET", "/", "h"]),
        ("GET", "http://h:80?x", ["GET", "/?x", "h:80"]), ("OPTIONS", "*", ["OPTIONS", "*", "h"]),
        ("OPTIONS", "http://h", ["OPTIONS", "*", "h"]), ("GET", "//h/a", ["GET", "//h/a", "h"]),
    ])
    func `a target of each form`(row: (method: String, target: String, parts: [String])) throws {
        let block = try HeaderBlock(request(row.method, row.target, [("host", "h")]), scheme: "http")
        #expect([block.method, block.path, block.authority] == row.parts.map { $0 })
        #expect(block.scheme == "http" && block["host"] == nil)
    }

    @Test func `CONNECT has an authority only, both ways`() throws {
        let block = try HeaderBlock(request("CONNECT", "h:80", [("host", "h"), ("a", "b")]), scheme: "http")
        #expect(lines(block) == [":method: CONNECT", ":authority: h:80", "a: b"])
        let head = try HTTP1RequestHead(block)
        #expect(
            head.method == "CONNECT" && head.target == Array("h:80".utf8)
                && lines(head.fields) == ["host: h:80", "a: b"])
    }

    @Test func `a block becomes a request with its host first and its cookies joined`() throws {
        let head = try HTTP1RequestHead([
            Header(":method", "GET"), Header(":scheme", "https"), Header(":authority", "h"),
            Header(":path", "/a"),
            Header("host", "h"), Header("cookie", "a=b"), Header("x", "y"), Header("cookie", "c=d"),
            Header("te", "trailers"),
        ])
        #expect(head.method == "GET" && head.target == Array("/a".utf8))
        #expect(lines(head.fields) == ["host: h", "cookie: a=b; c=d", "x: y", "te: trailers"])
        var machine = HTTP1ClientSide()
        var output: [UInt8] = []
        try machine.sendHead(head, endStream: true, to: &output)
        #expect(
            String(decoding: output, as: UTF8.self)
                == "GET /a HTTP/1.1\r\nhost: h\r\ncookie: a=b; c=d\r\nx: y\r\nte: trailers\r\nconnection: te\r\n\r\n"
        )
    }

    @Test func `a block that has no equal is refused`() {
        #expect(throws: TranslationError.pseudo) {
            try HTTP1RequestHead([Header(":authority", "h"), Header(":path", "/")])
        }
        #expect(throws: TranslationError.pseudo) {
            try HTTP1RequestHead([Header(":method", "GET"), Header(":authority", "h")])
        }
        #expect(throws: TranslationError.authority) {
            try HTTP1RequestHead([Header(":method", "GET"), Header(":path", "/")])
        }
        #expect(throws: TranslationError.pseudo) {
            try HTTP1RequestHead([
                Header(":method", "GET"), Header(":protocol", "websocket"), Header(":authority", "h"),
                Header(":path", "/"),
            ])
        }
        #expect(throws: TranslationError.pseudo) { try HTTP1ResponseHead([Header(":status", "x")]) }
        #expect(throws: TranslationError.pseudo) { try HTTP1ResponseHead([Header(":status", "101")]) }
    }

    /// What HTTP/2 lets through and HTTP/1 must not: each would be more than one line, or another target.
    @Test(arguments: [
        (":path", "/a b"), (":path", "/a\u{e4}"), (":path", "/a\r\nx: y"), (":path", "http://evil/"),
        (":method", "G T"),
        (":authority", "h/a"), (":authority", "u@h"), ("x", "a\r\nb: c"), ("x", "a\u{1}b"), ("x\r\ny", "a"),
        ("x y", "a"),
        (":authority", "h\r\nx: y"),
    ])
    func `no block becomes two requests`(name: String, value: String) throws {
        var headers = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/")]
        headers.removeAll { $0.0 == name }
        headers.append((name, value))
        let head = try HTTP1RequestHead(HeaderBlock(headers.map { Header($0.0, $0.1) }))
        var machine = HTTP1ClientSide()
        var output: [UInt8] = []
        #expect(throws: HTTP1SendError.self) { try machine.sendHead(head, endStream: true, to: &output) }
        #expect(output.isEmpty)
    }

    @Test func `only an allowed protocol is asked for`() throws {
        func block(_ name: String) -> HeaderBlock {
            [
                Header(":method", "CONNECT"), Header(":protocol", name), Header(":scheme", "http"),
                Header(":authority", "h"), Header(":path", "/"),
            ]
        }
        #expect(try HTTP1RequestHead(block("WebSocket")).upgrade == "WebSocket")
        #expect(try HTTP1RequestHead(block("x"), upgrades: ["y", "x"]).upgrade == "x")
        for name in ["h2c", "", "websocket2", "websocket, h2c"] {
            #expect(throws: TranslationError.upgrade) { try HTTP1RequestHead(block(name)) }
        }
        #expect(throws: TranslationError.upgrade) { try HTTP1RequestHead(block("websocket"), upgrades: []) }
    }

    @Test func `a change of protocol is an extended CONNECT, and its 101 a 200`() throws {
        var head = request(
            "GET", "/chat",
            [("host", "h"), ("sec-websocket-key", "k"), ("upgrade", "websocket"), ("connection", "upgrade")])
        head.upgrade = "websocket"
        let block = try HeaderBlock(head, scheme: "http")
        #expect(
            lines(block) == [
                ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /chat", ":authority: h",
                "sec-websocket-key: k",
            ])
        let back = try HTTP1RequestHead(block)
        #expect(
            back.method == "GET" && back.upgrade == "websocket"
                && lines(back.fields) == ["host: h", "sec-websocket-key: k"])

        var switching = HTTP1ResponseHead(
            status: 101, fields: fields([("upgrade", "websocket"), ("connection", "upgrade"), ("a", "b")]))
        switching.upgrade = "websocket"
        let answer = HeaderBlock(switching)
        #expect(lines(answer) == [":status: 200", "a: b"])
        #expect(try HTTP1ResponseHead(answer, upgrade: "websocket").status == 101)
        #expect(try HTTP1ResponseHead(answer, upgrade: "websocket").upgrade == "websocket")
        #expect(try HTTP1ResponseHead(answer).status == 200)
        #expect(try HTTP1ResponseHead([Header(":status", "403")], upgrade: "websocket").status == 403)
    }

    @Test func `responses and trailers keep their fields and values that are no UTF-8`() throws {
        var head = HTTP1ResponseHead(status: 103)
        head.fields.append("x".utf8, [0xff, 0x61])
        head.fields.append("connection", "close, y")
        head.fields.append("y", "z")
        let block = HeaderBlock(head)
        #expect(block.status == 103 && block.count == 2 && block.bytes(of: "x") == [0xff, 0x61])
        let back = try HTTP1ResponseHead(block)
        #expect(back.status == 103 && back.fields["x"] == [0xff, 0x61] && back.fields.count == 1)
        let trailers = HeaderBlock(trailers: fields([("grpc-status", "0")]))
        #expect(
            lines(trailers) == ["grpc-status: 0"]
                && lines(FieldBlock(trailers: trailers)) == ["grpc-status: 0"])
    }

    /// What the machine reads, as a block, is what the HTTP/2 engine takes: its rules find nothing wrong.
    @Test func `a block made of a request passes the HTTP/2 engine`() throws {
        var client = HTTP2Connection(role: .client, .mesh)
        var server = HTTP2Connection(role: .server, .mesh)
        let head = request(
            "GET", "http://h/a",
            [("host", "h"), ("te", "trailers"), ("connection", "te, x"), ("x", "y"), ("cookie", "a")])
        let block = try HeaderBlock(head, scheme: "http")
        _ = try client.openStream(block, endStream: true)
        let wire = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
        defer { unsafe wire.deallocate() }
        let count = unsafe client.takeOutput(into: wire)
        var offset = 0
        var got: HeaderBlock?
        while let event = try unsafe server.next(UnsafeRawBufferPointer(rebasing: wire[..<count]), &offset) {
            if case .headers(_, let block, _) = event { got = block }
        }
        #expect(got.map(lines) == lines(block))
    }
}
