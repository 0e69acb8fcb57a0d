import HTTP1
import Testing

private let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

struct ServerSideTests {
    private func respond(
        _ driver: inout ServerDriver, _ status: Int, _ fields: [(String, String)] = [],
        endStream: Bool = false,
        upgrade: String? = nil
    ) throws {
        var head = HTTP1ResponseHead(status: status)
        for (name, value) in fields { head.fields.append(name, value) }
        head.upgrade = upgrade
        try driver.machine.sendHead(head, endStream: endStream, to: &driver.output)
    }

    private func send(_ driver: inout ServerDriver, _ text: String) throws {
        let bytes = Array(text.utf8)
        let area = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { unsafe area.deallocate() }
        unsafe area.copyBytes(from: bytes)
        try unsafe driver.machine.sendData(UnsafeRawBufferPointer(area), to: &driver.output)
    }

    private func manual() -> ServerDriver {
        var driver = ServerDriver()
        driver.answers = false
        return driver
    }

    @Test func `pipelined requests are read one by one, and what is behind stays with the caller`() throws {
        var driver = manual()
        driver.feed(get + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.told == [.request("GET", "/"), .end([])])
        #expect(driver.leftCount == 28 && !driver.machine.wantsInput)
        try respond(&driver, 200, endStream: true)
        driver.feed("")
        #expect(driver.told == [.request("GET", "/"), .end([]), .request("GET", "/b"), .end([])])
        #expect(driver.leftCount == 0)
    }

    @Test func `a target of each form says whom and what it is for`() {
        var driver = ServerDriver()
        driver.feed(
            "GET /a?b=c HTTP/1.1\r\nHost: h:81\r\n\r\nGET HTTP://H/a HTTP/1.1\r\nHost: h:80\r\n\r\n"
                + "OPTIONS * HTTP/1.1\r\nHost: [::1]:8\r\n\r\nGET https://h?x HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.heads.map { $0.authority.map(text) } == ["h:81", "H", "[::1]:8", "h"])
        driver.answers = false
        driver.feed("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.told.suffix(2) == [.request("CONNECT", "h:80"), .end([])])
        #expect(driver.heads.last?.authority.map(text) == "h:80")
    }

    @Test func `a response ends by its length, by chunks, or for HTTP/1.0 by the end of the connection`()
        throws
    {
        var driver = manual()
        driver.feed(get)
        try respond(&driver, 200, [("content-length", "3")])
        try send(&driver, "abc")
        try driver.machine.sendEnd(to: &driver.output)
        driver.feed(get)
        try respond(&driver, 200)
        try send(&driver, "0123456789abcdef")
        try send(&driver, "")
        var trailers = FieldBlock()
        trailers.append("grpc-status", "0")
        trailers.append("content-length", "9")
        try driver.machine.sendEnd(trailers: trailers, to: &driver.output)
        driver.feed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        try respond(&driver, 200)
        try send(&driver, "x")
        try driver.machine.sendEnd(to: &driver.output)
        #expect(
            text(driver.output)
                == "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
                + "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\ngrpc-status: 0\r\n\r\n"
                + "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx")
        #expect(driver.machine.isOver)
    }

    @Test func `connections of HTTP/1.0 are kept where the client asks and the length is known`() throws {
        var driver = ServerDriver()
        driver.feed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(
            text(driver.output) == "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n")
        driver.feed("GET / HTTP/1.0\r\n\r\n")
        #expect(driver.machine.isOver)
    }

    @Test func `HEAD, 204 and 304 have no content and keep what their fields say of it`() throws {
        var driver = manual()
        driver.feed("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        try respond(&driver, 200, [("content-length", "5")], endStream: true)
        driver.feed(get)
        try respond(&driver, 304, [("content-length", "5")], endStream: true)
        driver.feed(get)
        try respond(&driver, 204, [("content-length", "0")])
        #expect(throws: HTTP1SendError.content) { try send(&driver, "a") }
        try driver.machine.sendEnd(to: &driver.output)
        #expect(
            text(driver.output)
                == "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
                + "HTTP/1.1 204 No Content\r\n\r\n")
    }

    @Test func `content that is not what was announced is refused`() throws {
        var driver = manual()
        driver.feed(get)
        try respond(&driver, 200, [("content-length", "3")])
        #expect(throws: HTTP1SendError.content) { try send(&driver, "abcd") }
        try send(&driver, "ab")
        #expect(throws: HTTP1SendError.content) { try driver.machine.sendEnd(to: &driver.output) }
    }

    @Test(arguments: [
        ("x", "a\r\nset-cookie: b"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\0b"), ("x\r\ny", "a"),
        ("x y", "a"),
        ("", "a"), ("x:", "a"), (":status", "200"),
    ])
    func `a field that could split a response is refused before a byte is written`(
        name: String, value: String
    ) throws {
        var driver = manual()
        driver.feed(get)
        #expect(throws: HTTP1SendError.field) { try respond(&driver, 200, [(name, value)]) }
        #expect(driver.output.isEmpty)
        try respond(&driver, 200)
        var trailers = FieldBlock()
        trailers.append(name, value)
        #expect(throws: HTTP1SendError.field) {
            try driver.machine.sendEnd(trailers: trailers, to: &driver.output)
        }
    }

    @Test func `fields of the connection are the machine's, not the caller's`() throws {
        var driver = manual()
        driver.feed(get)
        try respond(
            &driver, 200,
            [
                ("connection", "close"), ("keep-alive", "timeout=5"), ("transfer-encoding", "gzip"),
                ("upgrade", "x"), ("a", "b"),
            ],
            endStream: true)
        #expect(text(driver.output) == "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 0\r\n\r\n")
    }

    @Test func `fields that Connection lists go with it, and te stays for trailers only`() {
        var driver = ServerDriver()
        driver.feed(
            "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nConnection: b, TE,keep-alive\r\nB: 2\r\nKeep-Alive: 5\r\n"
                + "TE: trailers, deflate;q=0.5\r\nProxy-Connection: x\r\nConnection: c\r\nC: 3\r\nD: 4\r\n\r\n"
        )
        #expect(driver.heads[0].fields.lines == ["host: h", "a: 1", "d: 4", "te: trailers"])
        #expect(driver.heads[0].keepsAlive)
    }

    @Test func `a client that expects 100 is told, and a final response without it closes`() throws {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        var driver = manual()
        driver.feed(head)
        #expect(driver.heads[0].expectsContinue)
        try respond(&driver, 100)
        driver.feed("a")
        try respond(&driver, 200, endStream: true)
        #expect(
            text(driver.output) == "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        )

        driver = manual()
        driver.feed(head)
        try respond(&driver, 417, endStream: true)
        #expect(text(driver.output).contains("connection: close\r\n") && driver.machine.isOver)
        // Content that comes all the same, or what looks like a request, is not read.
        driver.feed(get)
        #expect(driver.heads.count == 1)
    }

    @Test func `interim responses go to HTTP/1.1 only, and no more than the limit`() throws {
        var driver = manual()
        driver.feed("GET / HTTP/1.0\r\n\r\n")
        try respond(&driver, 103, [("link", "</a>")])
        #expect(driver.output.isEmpty)
        driver = manual()
        driver.feed(get)
        for _ in 0..<driver.machine.limits.interimResponses { try respond(&driver, 103, [("link", "</a>")]) }
        #expect(throws: HTTP1SendError.order) { try respond(&driver, 103) }
        try respond(&driver, 200, endStream: true)
        #expect(throws: HTTP1SendError.order) { try respond(&driver, 200, endStream: true) }
    }

    @Test
    func `a response may begin and end before its request is whole, whose rest is dropped up to a limit`()
        throws
    {
        var limits = HTTP1Limits.streaming
        limits.rest = 10
        var driver = ServerDriver(HTTP1ServerSide(limits: limits))
        driver.answers = false
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        driver.feed(head)
        try respond(&driver, 200)
        driver.feed("1\r\nd\r\n")
        try driver.machine.sendEnd(to: &driver.output)
        #expect(driver.told == [.request("POST", "/"), .data("abcd")])
        driver.feed("a\r\n0123456789\r\n0\r\n\r\n" + head)
        #expect(driver.told.dropFirst(2) == [.request("POST", "/"), .data("abc")])
        try respond(&driver, 200, endStream: true)
        driver.feed("b\r\n0123456789a\r\n")
        #expect(driver.told.error == .restTooLarge && driver.machine.isOver)
    }

    @Test func `a protocol changes when the client asked for it, and not before its request is whole`() throws
    {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo, WebSocket\r\n\r\n"
        var driver = manual()
        driver.feed(head)
        #expect(driver.heads[0].upgrade == "websocket")
        #expect(throws: HTTP1SendError.upgrade) { try respond(&driver, 101, upgrade: "foo") }
        try respond(&driver, 101, [("sec-websocket-accept", "x")], upgrade: "websocket")
        #expect(
            text(driver.output)
                == "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        driver.feed("GET / HTTP/1.1\r\n")
        driver.feed("\0")
        try send(&driver, "raw")
        #expect(
            driver.told.last == .tunnel("GET / HTTP/1.1\r\n\0")
                && text(driver.output).hasSuffix("\r\n\r\nraw"))

        // Not asked for, or asked for without Connection, or in HTTP/1.0.
        for text in [
            get, head.replacing("Connection: Upgrade\r\n", with: ""), head.replacing("/1.1", with: "/1.0"),
        ] {
            driver = manual()
            driver.feed(text)
            #expect(throws: HTTP1SendError.upgrade) { try respond(&driver, 101, upgrade: "websocket") }
        }
    }

    @Test func `bytes that came with an upgrade request or CONNECT keep it from being granted`() throws {
        for text in [
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nx",
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\nx",
        ] {
            // As a caller would that answers from within the loop over events, before the machine sees what is behind.
            var machine = HTTP1ServerSide()
            var output: [UInt8] = []
            var offset = 0
            let bytes = Array(text.utf8)
            try unsafe bytes.withUnsafeBytes { input in
                while let event = try unsafe machine.next(input, &offset) {
                    guard case .end = event else { continue }
                    var head = HTTP1ResponseHead(status: text.hasPrefix("G") ? 101 : 200)
                    head.upgrade = "websocket"
                    #expect(throws: HTTP1SendError.upgrade) {
                        try machine.sendHead(head, endStream: false, to: &output)
                    }
                    break
                }
                #expect(throws: HTTP1Error.upgrade) { try unsafe machine.next(input, &offset) }
            }
            try machine.sendHead(HTTP1ResponseHead(status: 400), endStream: true, to: &output)
            #expect(machine.isOver && String(decoding: output, as: UTF8.self).contains("connection: close"))
        }
    }

    @Test func `an upgrade that is declined keeps the connection, unless more came with it`() throws {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        var driver = manual()
        driver.feed(head)
        #expect(driver.machine.wantsInput)
        try respond(&driver, 200, endStream: true)
        driver.feed("GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.heads.count == 2 && !driver.machine.wantsInput)

        // Answered at once, before what is behind was looked at.
        driver = ServerDriver()
        driver.feed(head + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.heads.count == 1 && driver.machine.isOver)
        #expect(text(driver.output).contains("connection: close"))
    }

    @Test func `CONNECT opens a tunnel by 2xx and closes by anything else`() throws {
        var driver = manual()
        driver.feed("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n")
        try respond(&driver, 200, [("content-length", "4")])
        #expect(text(driver.output) == "HTTP/1.1 200 OK\r\n\r\n")
        driver.feed("abc")
        #expect(driver.told.last == .tunnel("abc"))
        driver = manual()
        driver.feed("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n")
        try respond(&driver, 503, endStream: true)
        #expect(driver.machine.isOver)
    }

    @Test func `a malformed request is still answered, and then it is over`() throws {
        var driver = manual()
        driver.feed("GET / HTTP/1.1\r\nHost : h\r\n\r\n")
        #expect(driver.told == [.error(.field)])
        try respond(&driver, 400, endStream: true)
        #expect(
            text(driver.output)
                == "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        #expect(driver.machine.isOver)
    }

    @Test func `a client that leaves between requests is no error, and within one is`() throws {
        var driver = ServerDriver()
        driver.feed(get)
        driver.feed("")
        try driver.machine.end()
        #expect(driver.machine.isOver)
        for part in ["G", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na"] {
            var driver = manual()
            driver.feed(part)
            #expect(driver.machine.isWithinRequest)
            #expect(throws: HTTP1Error.incomplete) { try driver.machine.end() }
        }
    }

    @Test func `a client that closes its side behind its request is answered`() throws {
        var driver = manual()
        driver.feed(get)
        try driver.machine.end()
        try respond(&driver, 200, endStream: true)
        #expect(text(driver.output).contains("connection: close") && driver.machine.isOver)
    }

    static let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    /// One limit a row, at its edge and one beyond.
    static let limits: [(String, String, String, HTTP1Error)] = [
        ("start line", "GET /" + String(repeating: "a", count: 6) + " HTTP/1.1\r\n", "a", .startLineTooLong),
        ("field", "GET / HTTP/1.1\r\nx: " + String(repeating: "a", count: 27) + "\r\n", "a", .fieldTooLong),
        (
            "head",
            "GET / HTTP/1.1\r\n"
                + String(repeating: "a: " + String(repeating: "b", count: 20) + "\r\n", count: 3)
                + "a: b\r\n", "bbbbbbb", .headTooLarge
        ),
        ("fields", "GET / HTTP/1.1\r\n" + String(repeating: "a:b\r\n", count: 6), "", .tooManyFields),
        (
            "chunk line", chunked + "1;" + String(repeating: "a", count: 8) + "\r\n", "a",
            .chunkExtensionsTooLong
        ),
        (
            "chunk extensions", chunked + String(repeating: "1;abcd\r\na\r\n", count: 3) + "1;\r\n", "x",
            .chunkExtensionsTooLong
        ),
        ("trailers", chunked + "0\r\na: 0123456789abcd\r\na: b\r\n", "0123456", .trailersTooLarge),
        ("body", chunked + "14\r\n01234567890123456789\r\n1\r\n", "", .bodyTooLarge),
        ("announced body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 21\r\n\r\n", "", .bodyTooLarge),
    ]

    @Test(arguments: limits)
    func `every limit has its own error`(row: (name: String, bytes: String, more: String, error: HTTP1Error))
    {
        var limits = HTTP1Limits.streaming
        (limits.startLine, limits.field, limits.head, limits.fieldCount) = (20, 30, 100, 5)
        (limits.chunkLine, limits.chunkExtensions, limits.trailers, limits.body) = (10, 15, 25, 20)
        // The row's last line, with `more` in it.
        var bytes = row.bytes
        if !row.more.isEmpty {
            bytes.removeLast()
            bytes += row.more + "\r\n"
        }
        for part in [[Array(bytes.utf8)], pieces(Array(bytes.utf8))] {
            var driver = ServerDriver(HTTP1ServerSide(limits: limits))
            for piece in part { driver.feed(piece) }
            #expect(driver.told.error == row.error)
        }
        guard !row.more.isEmpty else { return }
        var driver = ServerDriver(HTTP1ServerSide(limits: limits))
        if row.name != "chunk extensions" { driver.feed(row.bytes) }
        #expect(driver.told.error == nil)
    }
}
