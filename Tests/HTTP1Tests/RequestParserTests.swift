import HTTP1
import Testing

/// Feeds `text` in pieces of `piece` bytes and collects the requests.
private func parse(
    _ text: String, piece: Int = .max, limits: HTTP1Limits = HTTP1Limits()
) throws(HTTP1Error) -> [HTTP1Request] {
    var parser = RequestParser(limits: limits)
    var requests: [HTTP1Request] = []
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let chunk = Array(rest.prefix(piece))
        rest = rest.dropFirst(piece)
        unsafe chunk.withUnsafeBytes { unsafe parser.append($0) }
        while let request = try parser.next() { requests.append(request) }
    }
    return requests
}

struct RequestParserTests {
    static let twoRequests =
        "POST /a?x=1&y=a+b%2Fc HTTP/1.1\r\nHost: h:80\r\nX-A:  v w \t\r\nContent-Length: 3\r\n\r\nabc"
        + "\r\nGET / HTTP/1.1\r\nhost: h\r\nConnection: Close\r\n\r\n"

    @Test(arguments: [1, 2, 3, 7, 50, .max])
    func `requests are read whole, however they are cut`(piece: Int) throws {
        let requests = try parse(Self.twoRequests, piece: piece)
        #expect(requests.count == 2)
        #expect(
            requests[0].method == "POST" && requests[0].path == "/a" && requests[0].query == "x=1&y=a+b%2Fc")
        #expect(requests[0].queryValues("y") == ["a b/c"])
        #expect(requests[0].fields["x-a"] == "v w")
        #expect(requests[0].body == Array("abc".utf8))
        #expect(requests[0].keepsAlive && !requests[1].keepsAlive)
    }

    @Test(arguments: [1, 2, 3, 5, .max])
    func `chunks are put together and trailers dropped`(piece: Int) throws {
        let text =
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
            + "3;name=value\r\nabc\r\n0a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET /n HTTP/1.1\r\nHost: h\r\n\r\n"
        let requests = try parse(text, piece: piece)
        #expect(requests.map(\.target) == ["/", "/n"])
        #expect(requests[0].body == Array("abc0123456789".utf8))
    }

    @Test func `HTTP/1.0 closes unless it asks to be kept`() throws {
        #expect(try parse("GET / HTTP/1.0\r\n\r\n")[0].keepsAlive == false)
        #expect(try parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")[0].keepsAlive == true)
    }

    @Test func `a client that waits for 100 is told once`() throws {
        var parser = RequestParser()
        let head = Array(
            "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n".utf8)
        unsafe head.withUnsafeBytes { unsafe parser.append($0) }
        #expect(try parser.next() == nil)
        let (first, second) = (parser.takeContinue(), parser.takeContinue())
        #expect(first && !second)
        #expect(parser.isWithinRequest == true)
    }

    static let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    /// One row a rule; each of them has been a way to smuggle a request somewhere.
    static let refused: [(String, String, HTTP1Error)] = [
        ("not HTTP", "\u{16}\u{3}\u{1}\r\n\r\n", .startLine),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n", .version),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        ("no version", "GET /\r\n\r\n", .startLine),
        ("HTTP/0.9 by another name", "GET / HTTP/0.9\r\n\r\n", .version),
        ("small letters in the version", "GET / http/1.1\r\n\r\n", .startLine),
        ("a space in the target", "GET /a b HTTP/1.1\r\n\r\n", .startLine),
        ("a fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("a target without a slash", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("* that is not OPTIONS", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("a path for CONNECT", "CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("a NUL in the target", "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("a parenthesis in the method", "G(T / HTTP/1.1\r\nHost: h\r\n\r\n", .startLine),
        ("a bare LF", "GET / HTTP/1.1\nHost: h\r\n\r\n", .lineEnd),
        ("a bare CR", "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", .lineEnd),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", .field),
        ("a folded line", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", .field),
        ("no colon", "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", .field),
        ("no name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", .field),
        ("a NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\0\r\n\r\n", .field),
        ("no host", "GET / HTTP/1.1\r\n\r\n", .host),
        ("two hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", .host),
        ("userinfo in the host", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", .host),
        ("a length with a sign", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", .length),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 1\r\n\r\n", .length),
        (
            "two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            .length
        ),
        (
            "a length beside a coding",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", .length
        ),
        ("gzip", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .transferCoding),
        ("a coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .transferCoding),
        (
            "two codings",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            .transferCoding
        ),
        ("a chunk size with a sign", chunked + "+1\r\na\r\n", .chunk),
        ("a chunk size with a prefix", chunked + "0x1\r\na\r\n", .chunk),
        ("no chunk size", chunked + "\r\n", .chunk),
        ("a space behind a chunk size", chunked + "1 \r\na\r\n", .chunk),
        ("a chunk size beyond numbers", chunked + "fffffffffffffffff\r\n", .chunk),
        ("a bare LF behind a chunk size", chunked + "1\na\r\n", .lineEnd),
        ("no line end behind a chunk", chunked + "1\r\nabc\r\n", .chunk),
        (
            "an endless chunk extension", chunked + "1;" + String(repeating: "x", count: 300),
            .chunkExtensionsTooLong
        ),
        (
            "a body over the limit", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n",
            .bodyTooLarge
        ),
        ("chunks over the limit", chunked + "100001\r\n", .bodyTooLarge),
        ("a head over the limit", "GET /" + String(repeating: "a", count: 20_000), .startLineTooLong),
        (
            "a whole head over the limit",
            "GET / HTTP/1.1\r\nHost: h\r\nX: " + String(repeating: "a", count: 20_000) + "\r\n\r\n",
            .headTooLarge
        ),
        (
            "more fields than allowed",
            "GET / HTTP/1.1\r\nHost: h\r\n" + String(repeating: "a: b\r\n", count: 100) + "\r\n",
            .tooManyFields
        ),
        (
            "trailers over the limit", chunked + "0\r\na: " + String(repeating: "b", count: 9_000),
            .trailersTooLarge
        ),
    ]

    @Test(arguments: refused, [1, .max])
    func `refuses`(row: (title: String, text: String, error: HTTP1Error), piece: Int) {
        #expect(throws: row.error, "\(row.title)") { try parse(row.text, piece: piece) }
    }

    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func `bytes that make no sense end in an error and never in a trap`(seed: UInt64) {
        var state = seed
        func random(_ limit: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % limit
        }
        for _ in 0..<200 {
            var bytes = Array(Self.twoRequests.utf8) + Array((Self.chunked + "3\r\nabc\r\n0\r\n\r\n").utf8)
            for _ in 0...random(6) {
                switch random(3) {
                case 0: bytes[random(bytes.count)] = UInt8(random(256))
                case 1: bytes.remove(at: random(bytes.count))
                default: bytes.insert([0x0d, 0x0a, 0x20, 0x3a, 0x00][random(5)], at: random(bytes.count))
                }
            }
            var parser = RequestParser()
            do throws(HTTP1Error) {
                while !bytes.isEmpty {
                    let chunk = Array(bytes.prefix(1 + random(20)))
                    bytes.removeFirst(chunk.count)
                    unsafe chunk.withUnsafeBytes { unsafe parser.append($0) }
                    while try parser.next() != nil {}
                }
            } catch {
                #expect(error.status >= 400)
            }
        }
    }
}
