import TestSupport
import Testing

@testable import HTTP2

struct HeaderTests {
    static func without(_ name: String, _ fields: [(String, String)]) -> [(String, String)] {
        fields.filter { $0.0 != name }
    }

    static func with(_ name: String, _ value: String, _ fields: [(String, String)] = get) -> [(
        String, String
    )] {
        fields.map { $0.0 == name ? (name, value) : $0 }
    }

    static func block(_ fields: [(String, String)]) -> HeaderBlock {
        var block = HeaderBlock()
        for (name, value) in fields {
            // Past `append`, which would make the name's letters small.
            unsafe Array(name.utf8).withUnsafeBufferPointer { name in
                unsafe Array(value.utf8).withUnsafeBufferPointer {
                    unsafe block.append(name: name, value: $0)
                }
            }
        }
        return block
    }

    /// RFC 9113 §8.2 and §8.3, one row a rule; nil is well formed.
    static let requests: [(String, [(String, String)], Malformed?)] = [
        ("a request", get, nil),
        ("a request for its options", with(":path", "*", with(":method", "OPTIONS")), nil),
        ("no authority", without(":authority", get), nil),
        ("CONNECT", connect, nil),
        ("CONNECT with a content-length", connect + [("content-length", "5")], nil),
        ("te: trailers", get + [("te", "trailers")], nil),
        ("the same host", get + [("host", "a")], nil),
        ("an empty value", get + [("x", "")], nil),
        ("bytes above ASCII in a value", get + [("x", "é")], nil),
        ("no method", without(":method", get), .missingPseudo),
        ("no scheme", without(":scheme", get), .missingPseudo),
        ("no path", without(":path", get), .missingPseudo),
        ("an empty path", with(":path", ""), .path),
        ("a path without a slash", with(":path", "x"), .path),
        ("a fragment in the path", with(":path", "/a#b"), .path),
        ("a space in the path", with(":path", "/a b"), .path),
        ("* that is not OPTIONS", with(":path", "*"), .path),
        ("an empty method", with(":method", ""), .method),
        ("a space in the method", with(":method", "GET /"), .method),
        ("an empty scheme", with(":scheme", ""), .scheme),
        ("a colon in the scheme", with(":scheme", "http:"), .scheme),
        ("userinfo", with(":authority", "u@a"), .authority),
        ("a path in the authority", with(":authority", "a/b"), .authority),
        ("a fragment in the authority", with(":authority", "a#b"), .authority),
        ("another host", get + [("host", "b")], .hostDiffers),
        ("two hosts", get + [("host", "a"), ("host", "b")], .hostDiffers),
        ("CONNECT without authority", [(":method", "CONNECT")], .missingPseudo),
        ("CONNECT with an empty authority", with(":authority", "", connect), .authority),
        ("CONNECT with a path", connect + [(":path", "/")], .forbiddenPseudo),
        ("CONNECT with a scheme", [(":scheme", "https")] + connect, .forbiddenPseudo),
        (
            "extended CONNECT that we did not allow",
            with(":method", "CONNECT") + [(":protocol", "websocket")], .forbiddenPseudo
        ),
        ("a status in a request", [(":status", "200")] + get, .forbiddenPseudo),
        ("an unknown pseudo-header", [(":x", "1")] + get, .unknownPseudo),
        ("a lone colon", [(":", "1")] + get, .unknownPseudo),
        ("a repeated pseudo-header", get + [(":path", "/")], .repeatedPseudo),
        ("a pseudo-header behind a field", [("a", "b")] + get, .pseudoAfterField),
        ("a capital letter", get + [("X-Y", "1")], .illegalName),
        ("an empty name", get + [("", "1")], .emptyName),
        ("a space in a name", get + [("a b", "1")], .illegalName),
        ("a colon in a name", get + [("a:b", "1")], .illegalName),
        ("a NUL in a name", get + [("a\0", "1")], .illegalName),
        ("NUL in a value (CVE-2019-9900)", get + [("a", "x\0y")], .illegalValue),
        ("CR in a value", get + [("a", "x\ry")], .illegalValue),
        ("LF in a value", get + [("a", "x\ny: z")], .illegalValue),
        ("LF in the path", with(":path", "/\nx"), .illegalValue),
        ("a space before a value", get + [("a", " x")], .illegalValue),
        ("a tab behind a value", get + [("a", "x\t")], .illegalValue),
        ("connection", get + [("connection", "close")], .connectionSpecific),
        ("keep-alive", get + [("keep-alive", "1")], .connectionSpecific),
        ("proxy-connection", get + [("proxy-connection", "x")], .connectionSpecific),
        ("transfer-encoding", get + [("transfer-encoding", "chunked")], .connectionSpecific),
        ("upgrade", get + [("upgrade", "h2c")], .connectionSpecific),
        ("te: gzip", get + [("te", "gzip")], .connectionSpecific),
        ("a signed length", get + [("content-length", "+1")], .contentLength),
        ("an empty length", get + [("content-length", "")], .contentLength),
        ("a list of lengths", get + [("content-length", "1, 1")], .contentLength),
        ("two lengths", get + [("content-length", "1"), ("content-length", "2")], .contentLength),
        ("a length beyond numbers", get + [("content-length", "99999999999999999999")], .contentLength),
    ]

    @Test(arguments: requests)
    func `judges requests`(row: (title: String, fields: [(String, String)], fault: Malformed?)) {
        var fault: Malformed?
        do throws(Malformed) {
            _ = try HeaderRules.request(Self.block(row.fields), connectProtocol: false)
        } catch {
            fault = error
        }
        #expect(fault == row.fault, "\(row.title)")
    }

    static let responses: [(String, [(String, String)], Malformed?)] = [
        ("200", ok, nil),
        ("999", [(":status", "999")], nil),
        ("no status", [("a", "b")], .missingPseudo),
        ("101, which HTTP/2 has not", [(":status", "101")], .status),
        ("two digits", [(":status", "99")], .status),
        ("four digits", [(":status", "2000")], .status),
        ("no digits", [(":status", "2 0")], .status),
        ("a path in a response", ok + [(":path", "/")], .forbiddenPseudo),
        ("two states", ok + ok, .repeatedPseudo),
    ]

    @Test(arguments: responses)
    func `judges responses`(row: (title: String, fields: [(String, String)], fault: Malformed?)) {
        var fault: Malformed?
        do throws(Malformed) {
            _ = try HeaderRules.response(Self.block(row.fields))
        } catch {
            fault = error
        }
        #expect(fault == row.fault, "\(row.title)")
    }

    @Test func `extended CONNECT is taken where it was announced`() throws {
        let extended = Self.block(Self.with(":method", "CONNECT") + [(":protocol", "websocket")])
        #expect(try HeaderRules.request(extended, connectProtocol: true).isConnect)
        let onGet = Self.block(get + [(":protocol", "websocket")])
        #expect(throws: Malformed.forbiddenPseudo) { try HeaderRules.request(onGet, connectProtocol: true) }
    }

    @Test func `a malformed request never reaches the application`() throws {
        let server = Endpoint(.server)
        #expect(try server.feed(headers(1, get + [("X-Capital", "1")], end: true)).isEmpty)
        #expect(server.output() == [TestFrame(type: 3, stream: 1, payload: big(1, 4))])
        #expect(server.connection.openStreams == 0)
    }

    @Test func `a block reads back what was put in, names in small letters`() {
        let block: HeaderBlock = [
            Header(":status", "204"), Header("X-A", "1"), Header("b", ""), Header("x-a", "2"),
        ]
        #expect(block.status == 204)
        #expect(block["x-a"] == "1")
        #expect(block.values(of: "x-a") == ["1", "2"])
        #expect(block["b"] == "" && block["c"] == nil)
        #expect(block.map(\.name) == [":status", "x-a", "b", "x-a"])
        #expect(block.listSize == 4 * 32 + 14 + 5)
    }

    @Test func `values that are not UTF-8 keep their bytes`() throws {
        var block = HeaderBlock()
        block.append("x", bytes: [0xff, 0x61])
        #expect(block["x"] == "\u{fffd}a")
        #expect(block.bytes(of: "x").map(Array.init) == [0xff, 0x61])
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `random blocks survive compression, whatever the table's size`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let encoder = HeaderEncoder()
        let decoder = HeaderDecoder()
        for _ in 0..<300 {
            if Int.random(in: 0..<10, using: &random) == 0 {
                let isChanged = encoder.changeTableSize(Int.random(in: 0...8192, using: &random))
                #expect(isChanged)
            }
            var block = HeaderBlock()
            for _ in 0..<Int.random(in: 0...20, using: &random) {
                let value = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                    UInt8.random(in: 1...255, using: &random)
                }
                block.append("x-\(Int.random(in: 0..<20, using: &random))", bytes: value)
            }
            var bytes: [UInt8] = []
            let isEncoded = unsafe encoder.encode(block) { unsafe bytes += $0 }
            #expect(isEncoded)
            let decoded = try unsafe bytes.withUnsafeBytes { try unsafe decoder.decode($0, limit: 1 << 20) }
            #expect(decoded.headers == block)
        }
    }
}
