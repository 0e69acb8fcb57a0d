import HTTP1
import Testing

struct ClientSideTests {
    private func told(
        _ response: String, method: String = "GET", upgrade: String? = nil, thenEnds: Bool = false
    ) throws -> [Told] {
        var all: [[Told]] = []
        for parts in [
            [Array(response.utf8)], pieces(Array(response.utf8)), pieces(Array(response.utf8), seed: 3),
        ] {
            var driver = ClientDriver()
            try driver.request(
                method, method == "CONNECT" ? "h:1" : "/", [("host", method == "CONNECT" ? "h:1" : "h")],
                upgrade: upgrade)
            for part in parts { driver.feed(part) }
            if thenEnds { driver.end() }
            all.append(driver.told)
        }
        #expect(all.allSatisfy { $0 == all[0] })
        return all[0]
    }

    @Test func `a request is written with its host first and the fields of its own connection`() throws {
        var driver = ClientDriver()
        try driver.request(
            "POST", "/a?b", [("te", "trailers"), ("connection", "x"), ("a", "b"), ("host", "h:81")],
            endStream: false)
        #expect(
            text(driver.output)
                == "POST /a?b HTTP/1.1\r\nhost: h:81\r\na: b\r\ntransfer-encoding: chunked\r\nte: trailers\r\nconnection: te\r\n\r\n"
        )
        #expect(!driver.machine.isIdle)
        driver.output = []
        try driver.machine.sendEnd(to: &driver.output)
        #expect(text(driver.output) == "0\r\n\r\n")
        driver.feed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        #expect(driver.machine.isIdle)
        driver.output = []
        try driver.request("PUT")
        #expect(text(driver.output) == "PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
    }

    @Test(arguments: [
        ("GET", "/a b", "h", HTTP1SendError.target), ("GET", "/a\r\nX: y", "h", .target),
        ("GET", "", "h", .target),
        ("GE T", "/", "h", .method), ("", "/", "h", .method), ("G\r\n", "/", "h", .method),
        ("GET", "/", "h\r\nX: y", .field),
        ("GET", "/", "a/b", .authority), ("GET", "/", "", .authority), ("GET", "http://a/", "b", .authority),
        ("CONNECT", "a:1", "b:1", .authority),
    ])
    func `a request that could be read as two is refused`(
        row: (method: String, target: String, host: String, error: HTTP1SendError)
    ) {
        var driver = ClientDriver()
        #expect(throws: row.error) { try driver.request(row.method, row.target, [("host", row.host)]) }
        #expect(driver.output.isEmpty && driver.machine.isIdle)
    }

    @Test func `responses end by length, by chunks with trailers, and by the end of the connection`() throws {
        #expect(
            try told("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab") == [
                .response(200), .data("ab"), .end([]),
            ])
        #expect(
            try told(
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nGrpc-Status: 0\r\nSet-Cookie: a\r\n\r\n"
            )
                == [.response(200), .data("abc"), .end(["grpc-status: 0"])])
        #expect(
            try told("HTTP/1.0 200 OK\r\n\r\nall", thenEnds: true) == [
                .response(200), .data("all"), .end([]),
            ])
        #expect(
            try told("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", thenEnds: true).last
                == .error(.incomplete))
        #expect(
            try told("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", thenEnds: true).last
                == .error(.incomplete))
        #expect(try told("HTTP/1.1 200 OK\r\n", thenEnds: true).last == .error(.incomplete))
        #expect(try told("", thenEnds: true) == [.error(.incomplete)])
    }

    @Test func `HEAD, 204 and 304 have no content whatever their fields say`() throws {
        #expect(
            try told("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", method: "HEAD") == [
                .response(200), .end([]),
            ])
        #expect(
            try told("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", method: "HEAD") == [
                .response(200), .end([]),
            ])
        #expect(try told("HTTP/1.1 304 \r\nContent-Length: 2\r\n\r\n") == [.response(304), .end([])])
        #expect(try told("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n") == [.response(204), .end([])])
    }

    static let refused: [(String, String, HTTP1Error)] = [
        ("content behind HEAD's response", "HTTP/1.1 204 \r\n\r\nab", .unsolicited),
        (
            "a second response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
            .unsolicited
        ),
        ("a line end behind a response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n", .unsolicited),
        ("a length in 204", "HTTP/1.1 204 \r\nContent-Length: 2\r\n\r\nab", .length),
        ("a coding in 204", "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", .length),
        ("a length in 100", "HTTP/1.1 100 \r\nContent-Length: 2\r\n\r\nab", .length),
        ("CL.TE", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", .length),
        ("CL.CL", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", .length),
        ("gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", .transferCoding),
        ("TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .transferCoding),
        (
            "101 that nobody asked for", "HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            .upgrade
        ),
        ("an empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", .startLine),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", .field),
        ("obs-fold", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", .field),
        ("bare LF", "HTTP/1.1 200 OK\nA: b\n\n", .lineEnd),
        ("NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n", .startLine),
        ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", .startLine),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", .startLine),
        ("a status below 100", "HTTP/1.1 099 OK\r\n\r\n", .startLine),
        ("a status with a sign", "HTTP/1.1 +20 OK\r\n\r\n", .startLine),
        ("another protocol", "ICY 200 OK\r\n\r\n", .startLine),
        ("HTTP/2", "HTTP/2 200 OK\r\n\r\n", .startLine),
        (
            "interim responses without end", String(repeating: "HTTP/1.1 103 \r\n\r\n", count: 17),
            .tooManyInterim
        ),
    ]

    @Test(arguments: refused)
    func `refuses`(row: (name: String, response: String, error: HTTP1Error)) throws {
        let all = try told(row.response)
        #expect(all.error == row.error, "\(row.name)")
    }

    @Test func `bytes before a request belong to nobody`() {
        var driver = ClientDriver()
        driver.feed("HTTP/1.1 200 OK\r\n\r\n")
        #expect(driver.told == [.error(.unsolicited)] && driver.machine.isOver)
    }

    @Test func `interim responses precede the final one`() throws {
        #expect(
            try told(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            )
                == [.response(100), .response(103), .response(200), .end([])])
    }

    @Test func `a response may come, and end, before the request is whole`() throws {
        var driver = ClientDriver()
        try driver.request("POST", endStream: false)
        driver.feed("HTTP/1.1 413 \r\nContent-Length: 1\r\n\r\na")
        #expect(driver.told == [.response(413), .data("a"), .end([])])
        #expect(!driver.machine.isIdle)
        try driver.machine.sendEnd(to: &driver.output)
        #expect(driver.machine.isIdle)
    }

    @Test func `a connection is used again only where both sides keep it`() throws {
        for (response, isKept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            var driver = ClientDriver()
            try driver.request()
            driver.feed(response)
            #expect(driver.machine.isIdle == isKept && driver.machine.isOver == !isKept)
        }
        var driver = ClientDriver()
        try driver.request()
        driver.feed("HTTP/1.1 200 OK\r\n\r\nabc")
        driver.end()
        #expect(driver.machine.isOver && driver.told.last == .end([]))
    }

    @Test func `101 must be asked for and say what was asked for`() throws {
        let answer = "HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nGET"
        #expect(try told(answer, upgrade: "websocket") == [.response(101), .tunnel("GET")])
        for wrong in [
            answer.replacing("WebSocket", with: "h2c"), answer.replacing("Connection: Upgrade\r\n", with: ""),
            answer.replacing("Upgrade: WebSocket\r\n", with: ""), answer.replacing("/1.1", with: "/1.0"),
            answer.replacing("WebSocket", with: "websocket, h2c"),
        ] {
            #expect(try told(wrong, upgrade: "websocket").error == .upgrade)
        }
        var driver = ClientDriver()
        try driver.request(upgrade: "websocket")
        #expect(
            text(driver.output)
                == "GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        #expect(throws: HTTP1SendError.upgrade) {
            var driver = ClientDriver()
            try driver.request(upgrade: "a\r\nb")
        }
    }

    @Test func `CONNECT's 2xx opens a tunnel whatever its fields say, and anything else does not`() throws {
        #expect(
            try told("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", method: "CONNECT") == [
                .response(200), .tunnel("abc"),
            ])
        #expect(
            try told("HTTP/1.1 503 \r\nContent-Length: 1\r\n\r\na", method: "CONNECT") == [
                .response(503), .data("a"), .end([]),
            ])
    }
}
