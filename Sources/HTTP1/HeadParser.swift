/// Reads heads: start line and fields (RFC 9112 §2 to §5), strictly. Pure functions over the bytes of one head.
enum HeadParser {
    /// Cuts a head, which ends with an empty line, into lines without their CRLF.
    static func lines(_ head: ArraySlice<UInt8>) throws(HTTP1Error) -> [ArraySlice<UInt8>] {
        var lines: [ArraySlice<UInt8>] = []
        var start = head.startIndex
        var index = start
        while index < head.endIndex {
            switch head[index] {
            case 0x0d:
                guard index + 1 < head.endIndex, head[index + 1] == 0x0a else { throw .lineEnd }
                lines.append(head[start..<index])
                index += 2
                start = index
            case 0x0a:
                throw .lineEnd
            default:
                index += 1
            }
        }
        return lines
    }

    static func fields(
        _ lines: some Collection<ArraySlice<UInt8>>, limits: HTTP1Limits
    ) throws(HTTP1Error) -> HTTP1Fields {
        guard lines.count <= limits.fieldCount else { throw .tooManyFields }
        var fields = HTTP1Fields()
        for line in lines {
            guard let colon = line.firstIndex(of: 0x3a), colon > line.startIndex else { throw .field }
            // White space before the colon, and folded lines, fail here: neither is in a token.
            let name = line[..<colon]
            guard name.allSatisfy(isTokenByte) else { throw .field }
            let value = trimmed(line[(colon + 1)...])
            guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else { throw .field }
            fields.append(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
        }
        return fields
    }

    /// - Returns: method, target, and whether the version is 1.1.
    static func requestLine(
        _ line: ArraySlice<UInt8>
    ) throws(HTTP1Error) -> (method: String, target: String, isCurrent: Bool) {
        let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw .startLine }
        let (method, target) = (parts[0], parts[1])
        guard !method.isEmpty, method.allSatisfy(isTokenByte) else { throw .startLine }
        let isCurrent = try version(parts[2])
        guard let first = target.first, target.allSatisfy({ (0x21...0x7e).contains($0) && $0 != 0x23 })
        else { throw .target }
        let methodName = String(decoding: method, as: UTF8.self)
        let text = String(decoding: target, as: UTF8.self)
        let isKnownForm =
            switch first {
            case 0x2f: methodName != "CONNECT"
            case 0x2a: text == "*" && methodName == "OPTIONS"
            default: methodName == "CONNECT" || text.hasPrefix("http://") || text.hasPrefix("https://")
            }
        guard isKnownForm else { throw .target }
        return (methodName, text, isCurrent)
    }

    /// - Returns: status, and whether the version is 1.1.
    static func statusLine(_ line: ArraySlice<UInt8>) throws(HTTP1Error) -> (status: Int, isCurrent: Bool) {
        let parts = line.split(separator: 0x20, maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, let first = parts.first else { throw .startLine }
        let isCurrent = try version(first)
        guard parts[1].count == 3, let status = number(parts[1]), status >= 100 else { throw .startLine }
        return (status, isCurrent)
    }

    private static func version(_ text: ArraySlice<UInt8>) throws(HTTP1Error) -> Bool {
        if text.elementsEqual("HTTP/1.1".utf8) { return true }
        if text.elementsEqual("HTTP/1.0".utf8) { return false }
        guard text.starts(with: "HTTP/".utf8) else { throw .startLine }
        throw .version
    }

    /// How long a message's content is (RFC 9112 §6.3). What could be read in two ways is refused: it is how requests
    /// are smuggled past whoever reads them the other way.
    static func framing(_ fields: HTTP1Fields, isCurrent: Bool) throws(HTTP1Error) -> Framing {
        let lengths = fields.values(of: "content-length")
        let codings = fields.values(of: "transfer-encoding")
        guard codings.isEmpty || lengths.isEmpty else { throw .length }
        if let coding = codings.first {
            guard codings.count == 1, isCurrent, coding.lowercased() == "chunked" else {
                throw .transferCoding
            }
            return .chunked
        }
        guard let length = lengths.first else { return .none }
        guard lengths.count == 1, let count = number(Array(length.utf8)[...]) else { throw .length }
        return .length(count)
    }

    enum Framing: Equatable {
        case none
        case length(Int)
        case chunked
    }

    static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let front = bytes.drop { $0 == 0x20 || $0 == 0x09 }
        return front.lastIndex { $0 != 0x20 && $0 != 0x09 }.map { front[...$0] } ?? []
    }

    /// Decimal digits and nothing else.
    static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        guard !digits.isEmpty, digits.count <= 18 else { return nil }
        var number = 0
        for byte in digits {
            guard (0x30...0x39).contains(byte) else { return nil }
            number = number * 10 + Int(byte - 0x30)
        }
        return number
    }
}

/// `tchar` of RFC 9110 §5.6.2.
func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e...0x60, 0x7c,
        0x7e:
        true
    default: false
    }
}

func isHexDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte) || (0x41...0x46).contains(byte)
}
