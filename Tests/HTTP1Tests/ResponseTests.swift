import HTTP1
import Testing

struct ResponseTests {
    private func parse(_ bytes: [UInt8], isHead: Bool = false, piece: Int = .max) throws -> HTTP1Response? {
        var parser = ResponseParser(isHead: isHead)
        var rest = bytes[...]
        while !rest.isEmpty {
            let chunk = Array(rest.prefix(piece))
            rest = rest.dropFirst(piece)
            unsafe chunk.withUnsafeBytes { unsafe parser.append($0) }
            if let response = try parser.next() { return response }
        }
        return try parser.end()
    }

    @Test(arguments: [1, 4, .max])
    func `what is written reads back`(piece: Int) throws {
        let response = HTTP1Response(status: 404, text: "no such page\n")
        let read = try parse(response.serialized(keepsAlive: true), piece: piece)
        #expect(read?.status == 404 && read?.body == response.body)
        #expect(read?.fields["content-length"] == "13")
        #expect(read?.fields["connection"] == nil)
    }

    @Test func `a value cannot start a line of its own`() throws {
        let response = HTTP1Response(status: 200, fields: ["x": "a\r\nset-cookie: b"])
        let read = try parse(response.serialized(keepsAlive: false))
        #expect(read?.fields["set-cookie"] == nil)
        #expect(read?.fields["x"] == "a  set-cookie: b")
        #expect(read?.fields["connection"] == "close")
    }

    @Test func `HEAD and 204 have no content`() throws {
        let response = HTTP1Response(status: 200, text: "abc")
        let read = try parse(response.serialized(isHead: true, keepsAlive: true), isHead: true)
        #expect(read?.fields["content-length"] == "3" && read?.body == [])
        let none = HTTP1Response(status: 204, body: [1]).serialized(keepsAlive: true)
        #expect(String(decoding: none, as: UTF8.self) == "HTTP/1.1 204 No Content\r\n\r\n")
    }

    @Test(arguments: [1, 5, .max])
    func `chunks, interim responses and content up to the end are read`(piece: Int) throws {
        let chunked =
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        #expect(try parse(Array(chunked.utf8), piece: piece)?.body == Array("ab".utf8))
        let closing = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"
        #expect(try parse(Array(closing.utf8), piece: piece)?.body == Array("all of it".utf8))
    }

    @Test func `a response that is cut off is an error`() {
        #expect(throws: HTTP1Error.incomplete) {
            try parse(Array("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".utf8))
        }
    }

    @Test func `a request is written as it is read`() throws {
        var request = HTTP1Request(method: "POST", target: "/x?y", fields: ["Host": "h"], body: [1, 2])
        request.keepsAlive = false
        var parser = RequestParser()
        unsafe request.serialized().withUnsafeBytes { unsafe parser.append($0) }
        let read = try parser.next()
        #expect(read?.body == [1, 2] && read?.target == "/x?y" && read?.keepsAlive == false)
    }
}
