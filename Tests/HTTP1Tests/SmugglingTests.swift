import HTTP1
import Testing

/// The ways of the literature to have one request read as two, each by its name. A row holds whatever its cuts.
struct SmugglingTests {
    struct Vector: Sendable, CustomTestStringConvertible {
        var name: String
        var bytes: [UInt8]
        var error: HTTP1Error

        init(_ name: String, _ text: String, _ error: HTTP1Error) {
            self.name = name
            bytes = Array(text.utf8)
            self.error = error
        }

        /// `fields`, each with its line end, in a POST that has a Host.
        init(_ name: String, fields: String, _ error: HTTP1Error) {
            self.init(
                name,
                "POST /a HTTP/1.1\r\nHost: h\r\n" + fields
                    + "\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n", error)
        }

        /// `chunks` behind a head that announces them.
        init(_ name: String, chunks: String, _ error: HTTP1Error) {
            self.init(
                name, "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, error)
        }

        var testDescription: String { name }
    }

    static let lengthAndCoding = [
        Vector("CL.TE", fields: "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", .length),
        Vector("TE.CL", fields: "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", .length),
        Vector("CL.0 with a coding", fields: "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", .length),
        Vector("CL.CL that differ", fields: "Content-Length: 5\r\nContent-Length: 6\r\n", .length),
        Vector("CL.CL that agree", fields: "Content-Length: 5\r\nContent-Length: 5\r\n", .length),
        Vector("CL list that agrees", fields: "Content-Length: 5, 5\r\n", .length),
        Vector("CL list that differs", fields: "Content-Length: 5,6\r\n", .length),
        Vector("CL empty", fields: "Content-Length: \r\n", .length),
        Vector("CL plus", fields: "Content-Length: +5\r\n", .length),
        Vector("CL minus", fields: "Content-Length: -5\r\n", .length),
        Vector("CL minus zero", fields: "Content-Length: -0\r\n", .length),
        Vector("CL hexadecimal", fields: "Content-Length: 0x5\r\n", .length),
        Vector("CL with an inner space", fields: "Content-Length: 1 0\r\n", .length),
        Vector("CL with an underscore of Python", fields: "Content-Length: 1_0\r\n", .length),
        Vector("CL with a decimal point", fields: "Content-Length: 5.0\r\n", .length),
        Vector("CL overflow of 64 bits", fields: "Content-Length: 18446744073709551621\r\n", .length),
        Vector("CL overflow of 63 bits", fields: "Content-Length: 9223372036854775808\r\n", .length),
        Vector("CL in digits of another script", fields: "Content-Length: ٥\r\n", .length),
        Vector("CL behind a tab", fields: "Content-Length:\t5\r\n", .field),
        Vector("CL before a tab", fields: "Content-Length: 5\t\r\n", .field),
        Vector("CL behind a vertical tab", fields: "Content-Length:\u{b}5\r\n", .field),
        Vector("CL before a NUL", fields: "Content-Length: 5\0\r\n", .field),
        Vector("Content_Length", fields: "Content_Length: 5\r\n", .field),
    ]

    static let transferEncodings = [
        Vector(
            "TE.TE: chunked twice", fields: "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            .transferCoding),
        Vector(
            "TE.TE: second identity", fields: "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            .transferCoding),
        Vector(
            "TE.TE: second x", fields: "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n",
            .transferCoding),
        Vector("TE: identity", fields: "Transfer-Encoding: identity\r\n", .transferCoding),
        Vector("TE: chunked, identity", fields: "Transfer-Encoding: chunked, identity\r\n", .transferCoding),
        Vector("TE: identity, chunked", fields: "Transfer-Encoding: identity, chunked\r\n", .transferCoding),
        Vector("TE: chunked, chunked", fields: "Transfer-Encoding: chunked, chunked\r\n", .transferCoding),
        Vector("TE: gzip, chunked", fields: "Transfer-Encoding: gzip, chunked\r\n", .transferCoding),
        Vector("TE: xchunked", fields: "Transfer-Encoding: xchunked\r\n", .transferCoding),
        Vector("TE: chunkedx", fields: "Transfer-Encoding: chunkedx\r\n", .transferCoding),
        Vector("TE: chunked;x", fields: "Transfer-Encoding: chunked;x\r\n", .transferCoding),
        Vector("TE: chunked,", fields: "Transfer-Encoding: chunked,\r\n", .transferCoding),
        Vector("TE: ,chunked", fields: "Transfer-Encoding: ,chunked\r\n", .transferCoding),
        Vector("TE: \"chunked\"", fields: "Transfer-Encoding: \"chunked\"\r\n", .transferCoding),
        Vector("TE: 'chunked'", fields: "Transfer-Encoding: 'chunked'\r\n", .transferCoding),
        Vector("TE: empty", fields: "Transfer-Encoding:\r\n", .transferCoding),
        Vector("TE: c hunked", fields: "Transfer-Encoding: c hunked\r\n", .transferCoding),
        Vector(
            "TE: with a Kelvin sign for the k", fields: "Transfer-Encoding: chun\u{212a}ed\r\n",
            .transferCoding),
        Vector("TE behind a tab", fields: "Transfer-Encoding:\tchunked\r\n", .field),
        Vector("TE before a tab", fields: "Transfer-Encoding: chunked\t\r\n", .field),
        Vector("TE behind a vertical tab", fields: "Transfer-Encoding:\u{b}chunked\r\n", .field),
        Vector("TE behind a form feed", fields: "Transfer-Encoding:\u{c}chunked\r\n", .field),
        Vector("TE behind a NUL", fields: "Transfer-Encoding: \0chunked\r\n", .field),
        Vector("TE before DEL", fields: "Transfer-Encoding: chunked\u{7f}\r\n", .field),
        Vector("space before TE's colon", fields: "Transfer-Encoding : chunked\r\n", .field),
        Vector("tab before TE's colon", fields: "Transfer-Encoding\t: chunked\r\n", .field),
        Vector("TE on a line that begins with a space", fields: " Transfer-Encoding: chunked\r\n", .field),
        Vector("TE folded before its value", fields: "Transfer-Encoding:\r\n chunked\r\n", .field),
        Vector("TE behind a folded line", fields: "X: a\r\n\tTransfer-Encoding: chunked\r\n", .field),
        Vector("TE behind a bare LF", fields: "X: a\nTransfer-Encoding: chunked\r\n", .lineEnd),
        Vector("TE behind a bare CR", fields: "X: a\rTransfer-Encoding: chunked\r\n", .lineEnd),
        Vector("TE behind CR CR LF", fields: "X: a\r\r\nTransfer-Encoding: chunked\r\n", .lineEnd),
        Vector("Transfer_Encoding", fields: "Transfer_Encoding: chunked\r\n", .field),
        Vector("TE with a letter that is not ASCII", fields: "Tränsfer-Encoding: chunked\r\n", .field),
        Vector("TE with a NUL in its name", fields: "Transfer\0-Encoding: chunked\r\n", .field),
        Vector(
            "TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            .transferCoding),
    ]

    static let fields = [
        Vector("obs-fold", fields: "X: a\r\n b\r\n", .field),
        Vector("obs-fold by tab", fields: "X: a\r\n\tb\r\n", .field),
        Vector("obs-fold of the first field", "GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n", .field),
        Vector("a name alone", fields: "X\r\n", .field),
        Vector("an empty name", fields: ": x\r\n", .field),
        Vector("a space in a name", fields: "X Y: x\r\n", .field),
        Vector("a slash in a name", fields: "X/Y: x\r\n", .field),
        Vector("a pseudo-header", fields: ":method: GET\r\n", .field),
        Vector("NUL in a value, CVE-2019-9900", fields: "X: a\0b\r\n", .field),
        Vector("escape in a value", fields: "X: \u{1b}[2J\r\n", .field),
        Vector("bare LF ends the head", "GET / HTTP/1.1\r\nHost: h\r\n\n", .lineEnd),
        Vector("bare LFs throughout", "GET / HTTP/1.1\nHost: h\n\n", .lineEnd),
        Vector("bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", .lineEnd),
        Vector(
            "Connection lists Content-Length", fields: "Content-Length: 5\r\nConnection: content-length\r\n",
            .connection),
        Vector("Connection lists Host", fields: "Connection: Host\r\n", .connection),
        Vector(
            "Connection lists X-Forwarded-For", fields: "Connection: close, X-Forwarded-For\r\n", .connection),
        Vector("Connection lists Authorization", fields: "Connection: authorization\r\n", .connection),
        Vector("Connection lists no name", fields: "Connection: a b\r\n", .connection),
        Vector(
            "Connection lists 33 options over two lines",
            fields: "Connection: a\r\nConnection: \(String(repeating: "b, ", count: 32))\r\n",
            .tooManyConnectionOptions),
    ]

    static let startLines = [
        Vector("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .version),
        Vector("HTTP/0.9", "GET /\r\n", .startLine),
        Vector("HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", .version),
        Vector("HTTP/1.10", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", .startLine),
        Vector("HTTP/01.1", "GET / HTTP/01.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("http/1.1", "GET / http/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("a tab for a space", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("a space at the end", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", .startLine),
        Vector("a space at the start", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("a request in a target", "GET / HTTP/1.1 GET /b HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("an empty method", " / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("a method that is no token", "G\"T / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        Vector("a fragment, CVE-2021-32779", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("a byte beyond ASCII in the target", "GET /ä HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("a target without a slash", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("* with GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("a scheme that is not HTTP's", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("an absolute form without authority", "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("userinfo in an absolute form", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("backslash in an absolute form", "GET http://h\\@evil/ HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("CONNECT with a path", "CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("CONNECT without a port", "CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("CONNECT with an absolute form", "CONNECT http://h:80 HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector("CONNECT to port 0", "CONNECT h:0 HTTP/1.1\r\nHost: h:0\r\n\r\n", .target),
        Vector("CONNECT beyond the last port", "CONNECT h:65536 HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        Vector(
            "CONNECT with content", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\nContent-Length: 1\r\n\r\na",
            .length),
    ]

    static let hosts = [
        Vector("no Host", "GET / HTTP/1.1\r\n\r\n", .host),
        Vector("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", .host),
        Vector("two equal Hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", .host),
        Vector("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", .host),
        Vector("an empty Host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", .host),
        Vector("a list in Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", .host),
        Vector("userinfo in Host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", .host),
        Vector("a path in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", .host),
        Vector("a query in Host", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", .host),
        Vector("a space in Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", .host),
        Vector("a port that is no number", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", .host),
        Vector("an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", .host),
        Vector("two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", .host),
        Vector("an open bracket", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", .host),
        Vector("a name behind a bracket", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", .host),
        Vector("a zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n", .host),
        Vector("an escape in Host", "GET / HTTP/1.1\r\nHost: a%2fb\r\n\r\n", .host),
        Vector("Host beside an absolute form differs", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", .host),
        Vector(
            "Host beside an absolute form has another port", "GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
            .host),
        Vector("no Host beside an absolute form", "GET http://a/ HTTP/1.1\r\n\r\n", .host),
        Vector("Host beside CONNECT differs", "CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", .host),
        Vector("Host beside CONNECT has another port", "CONNECT a:80 HTTP/1.1\r\nHost: a:81\r\n\r\n", .host),
    ]

    static let chunks = [
        Vector("an empty chunk size", chunks: "\r\n", .chunk),
        Vector("chunk size plus", chunks: "+1\r\na\r\n", .chunk),
        Vector("chunk size minus", chunks: "-1\r\na\r\n", .chunk),
        Vector("chunk size 0x", chunks: "0x1\r\na\r\n", .chunk),
        Vector("chunk size with an underscore", chunks: "1_0\r\na\r\n", .chunk),
        Vector("a space before a chunk size", chunks: " 1\r\na\r\n", .chunk),
        Vector("a space behind a chunk size", chunks: "1 \r\na\r\n", .chunk),
        Vector("a tab behind a chunk size", chunks: "1\t\r\na\r\n", .chunk),
        Vector("chunk size overflow of 64 bits", chunks: "10000000000000001\r\na\r\n", .chunk),
        Vector("chunk size overflow of 63 bits", chunks: "8000000000000000\r\na\r\n", .chunk),
        Vector("chunk size behind many zeros", chunks: "0000000000000001\r\na\r\n", .chunk),
        Vector("bare LF behind a chunk size", chunks: "1\na\r\n0\r\n\r\n", .lineEnd),
        Vector("bare CR behind a chunk size", chunks: "1\ra\r\n0\r\n\r\n", .lineEnd),
        Vector("bare LF in a chunk extension (TERM.EXT)", chunks: "2;\nab\r\n0\r\n\r\n", .lineEnd),
        Vector("bare CR in a chunk extension (EXT.TERM)", chunks: "2;a\rb\r\nab\r\n", .lineEnd),
        Vector("bare LF in a quoted chunk extension", chunks: "2;a=\"\nb\"\r\nab\r\n", .lineEnd),
        Vector("a chunk extension without a name", chunks: "1;\r\na\r\n", .chunk),
        Vector("a chunk extension without a value", chunks: "1;a=\r\na\r\n", .chunk),
        Vector("a chunk extension with an open quote", chunks: "1;a=\"b\r\na\r\n", .chunk),
        Vector("a chunk extension with a space", chunks: "1 ;a\r\na\r\n", .chunk),
        Vector("no CRLF behind a chunk (TERM.SPILL)", chunks: "1\r\naX\r\n", .chunk),
        Vector("LF behind a chunk", chunks: "1\r\na\n0\r\n\r\n", .chunk),
        Vector("CR and another byte behind a chunk", chunks: "1\r\na\rX", .chunk),
        Vector("a chunk that is longer than its size", chunks: "1\r\nab\r\n0\r\n\r\n", .chunk),
        Vector("trailers end with bare LF", chunks: "0\r\n\n", .lineEnd),
        Vector("Content-Length in trailers", chunks: "0\r\nContent-Length: 5\r\n\r\n", .field),
        Vector("Transfer-Encoding in trailers", chunks: "0\r\nTransfer-Encoding: chunked\r\n\r\n", .field),
        Vector("Host in trailers", chunks: "0\r\nHost: x\r\n\r\n", .field),
        Vector("Connection in trailers", chunks: "0\r\nConnection: close\r\n\r\n", .field),
        Vector("obs-fold in trailers", chunks: "0\r\nX: a\r\n b\r\n\r\n", .field),
    ]

    static let upgrades = [
        Vector(
            "bytes behind an upgrade request",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /b HTTP/1.1\r\n",
            .upgrade),
        Vector(
            "bytes behind CONNECT", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\nGET /b HTTP/1.1\r\n", .upgrade
        ),
        Vector(
            "an upgrade request with content",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na",
            .upgrade),
    ]

    @Test(arguments: lengthAndCoding + transferEncodings + fields + startLines + hosts + chunks + upgrades)
    func `is refused`(vector: Vector) {
        for piece in [
            [vector.bytes], pieces(vector.bytes), pieces(vector.bytes, seed: 1),
            pieces(vector.bytes, seed: 2),
        ] {
            var driver = ServerDriver()
            // A change of protocol is answered later: what comes before that is what counts.
            driver.answers = vector.error != .upgrade
            for part in piece { driver.feed(part) }
            #expect(driver.told.error == vector.error)
            #expect(!driver.told.contains(.request("GET", "/b")))
        }
    }

    @Test func `an h2c upgrade is not passed on, and what follows is the next request`() {
        var driver = ServerDriver()
        driver.feed(
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                + "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(driver.heads.map { text($0.target) } == ["/a", "/b"])
        #expect(driver.heads[0].upgrade == nil && driver.heads[0].fields.lines == ["host: h"])
    }

    @Test func `an upgrade request that is answered 200 opens nothing (CVE-2024-23326)`() throws {
        var client = ClientDriver()
        try client.request(upgrade: "websocket")
        client.feed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokGET /b HTTP/1.1\r\n")
        #expect(client.told == [.response(200), .data("ok"), .end([]), .error(.unsolicited)])
    }
}
