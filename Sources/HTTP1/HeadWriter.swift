/// Writes heads and trailers. Everything is checked before a byte is written: whoever made the message, it cannot be read
/// as two.
enum HeadWriter {
    static func requestLine(
        _ head: HTTP1RequestHead, to output: inout [UInt8]
    ) throws(HTTP1SendError) {
        guard !head.method.isEmpty, head.method.utf8.allSatisfy(isTokenByte) else { throw .method }
        let target: RequestTarget
        do { target = try RequestTarget(head.target[...], method: head.method) } catch { throw .target }
        guard head.fields.count(of: "host") <= 1, let host = head.fields["host"] ?? target.authority,
            Authority.isValid(host)
        else { throw .authority }
        if let authority = target.authority {
            guard Authority.same(authority, host, defaultPort: Authority.port(of: authority))
            else { throw .authority }
        }
        output += head.method.utf8
        output.append(0x20)
        output += head.target
        output += " HTTP/1.1\r\nhost: ".utf8
        output += host
        output += "\r\n".utf8
    }

    static func statusLine(_ status: Int, to output: inout [UInt8]) {
        output += "HTTP/1.1 ".utf8
        appendDecimal(Int64(status), to: &output)
        output.append(0x20)
        output += reasonPhrase(status).utf8
        output += "\r\n".utf8
    }

    /// The fields of a head but for those that are the connection's, which its machine writes. What an intermediary must
    /// not pass on is left out here too, so that nobody can forget it.
    static func fields(_ block: FieldBlock, to output: inout [UInt8]) {
        for index in 0..<block.count where !isOfConnection(block.name(at: index)) {
            line(block, index, to: &output)
        }
    }

    static func trailers(_ block: FieldBlock, to output: inout [UInt8]) {
        for index in 0..<block.count {
            let name = block.name(at: index)
            if !HeadRules.mayNotTrail(name), !HeadRules.isDroppedTrailer(name) {
                line(block, index, to: &output)
            }
        }
        output += "\r\n".utf8
    }

    static func check(_ block: FieldBlock) throws(HTTP1SendError) {
        for index in 0..<block.count {
            let (name, value) = (block.name(at: index), block.value(at: index))
            guard !name.isEmpty, name.allSatisfy(isTokenByte), value.allSatisfy(isValueByte) else {
                throw .field
            }
        }
    }

    /// The announced length of the content, nil without one.
    static func length(_ block: FieldBlock) throws(HTTP1SendError) -> Int64? {
        guard let value = block["content-length"] else { return nil }
        guard block.count(of: "content-length") == 1, let length = decimal(value) else { throw .length }
        return length
    }

    static func lengthField(_ length: Int64, to output: inout [UInt8]) {
        output += "content-length: ".utf8
        appendDecimal(length, to: &output)
        output += "\r\n".utf8
    }

    private static func line(_ block: FieldBlock, _ index: Int, to output: inout [UInt8]) {
        output += block.name(at: index)
        output += ": ".utf8
        output += block.value(at: index)
        output += "\r\n".utf8
    }

    private static func isOfConnection(_ name: ArraySlice<UInt8>) -> Bool {
        switch name.count {
        case 2: equal(name, "te")
        case 4: equal(name, "host")
        case 7: equal(name, "upgrade")
        case 10: equal(name, "connection") || equal(name, "keep-alive")
        case 14: equal(name, "content-length") || equal(name, "http2-settings")
        case 16: equal(name, "proxy-connection")
        case 17: equal(name, "transfer-encoding")
        default: false
        }
    }

    private static func appendDecimal(_ number: Int64, to output: inout [UInt8]) {
        let value = max(0, number)
        var unit: Int64 = 1
        while value / unit >= 10 { unit *= 10 }
        while unit > 0 {
            output.append(UInt8(truncatingIfNeeded: 0x30 + value / unit % 10))
            unit /= 10
        }
    }
}

/// The words behind a status, which no reader goes by; none for the rest (RFC 9112 §4).
func reasonPhrase(_ status: Int) -> String {
    switch status {
    case 100: "Continue"
    case 101: "Switching Protocols"
    case 103: "Early Hints"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 206: "Partial Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 417: "Expectation Failed"
    case 426: "Upgrade Required"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
}

/// Frames the content that one side sends (RFC 9112 §6, §7), and holds it to what its head announced.
struct ContentWriter: Sendable {
    /// Bytes that are still owed to `content-length`; without meaning otherwise.
    private var left: Int64 = 0
    private(set) var framing = ContentFraming.none

    mutating func begin(_ framing: ContentFraming) {
        self.framing = framing
        if case .length(let length) = framing { left = length }
    }

    /// What stands before `count` bytes of content in the output.
    mutating func beginData(_ count: Int, to output: inout [UInt8]) throws(HTTP1SendError) {
        guard count > 0 else { return }
        switch framing {
        case .none: throw .content
        case .untilEnd: break
        case .length:
            guard Int64(count) <= left else { throw .content }
            left -= Int64(count)
        case .chunked:
            var shift = (Int.bitWidth - count.leadingZeroBitCount - 1) & ~3
            while shift >= 0 {
                let digit = UInt8(truncatingIfNeeded: count >> shift & 15)
                output.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
                shift -= 4
            }
            output += "\r\n".utf8
        }
    }

    /// What stands behind them.
    func endData(_ count: Int, to output: inout [UInt8]) {
        if framing == .chunked, count > 0 { output += "\r\n".utf8 }
    }

    mutating func end(_ trailers: FieldBlock, to output: inout [UInt8]) throws(HTTP1SendError) {
        if case .length = framing, left > 0 { throw .content }
        guard framing == .chunked else { return }
        try HeadWriter.check(trailers)
        output += "0\r\n".utf8
        HeadWriter.trailers(trailers, to: &output)
    }
}
