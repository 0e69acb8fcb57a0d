/// A whole request.
public struct HTTP1Request: Hashable, Sendable {
    /// As it came: methods have upper and lower case (RFC 9110 §9.1).
    public var method: String
    /// The request target as it came: a path with its query, an absolute URI, an authority (CONNECT), or `*`.
    public var target: String
    public var fields = HTTP1Fields()
    public var body: [UInt8] = []
    /// The peer means to send another request on the connection (RFC 9112 §9.3).
    public var keepsAlive = true

    public init(method: String, target: String, fields: HTTP1Fields = [:], body: [UInt8] = []) {
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
    }

    /// The target up to its query.
    public var path: String { String(target.prefix { $0 != "?" }) }

    /// What stands behind the target's first question mark, nil without one.
    public var query: String? {
        target.firstIndex(of: "?").map { String(target[target.index(after: $0)...]) }
    }

    /// The values of `name` in the query, with `+` and percent-encoding undone; malformed escapes stay as they are.
    public func queryValues(_ name: String) -> [String] {
        (query ?? "").split(separator: "&").compactMap { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = parts.first, Self.decoded(first) == name else { return nil }
            return parts.count == 2 ? Self.decoded(parts[1]) : ""
        }
    }

    private static func decoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if byte == 0x25, digits.utf8.count == 2, digits.utf8.allSatisfy(isHexDigit),
                let value = UInt8(digits, radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == 0x2b ? 0x20 : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The request as bytes, with `Content-Length` where it has a body, and `Connection: close` unless it keeps alive.
    public func serialized() -> [UInt8] {
        var writer = PageHeadWriter(startLine: "\(method) \(target) HTTP/1.1")
        writer.append(fields)
        if !body.isEmpty { writer.append("content-length", String(body.count)) }
        if !keepsAlive { writer.append("connection", "close") }
        return writer.finished() + body
    }
}

/// A whole response.
public struct HTTP1Response: Hashable, Sendable {
    public var status: Int
    public var fields: HTTP1Fields
    public var body: [UInt8]

    public init(status: Int, fields: HTTP1Fields = [:], body: [UInt8] = []) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// A response of text, by default plain.
    public init(status: Int, contentType: String = "text/plain; charset=utf-8", text: String) {
        self.init(status: status, fields: ["content-type": contentType], body: Array(text.utf8))
    }

    /// The answer to a request that could not be read.
    public init(_ error: HTTP1Error) {
        self.init(status: error.status, text: error.description + "\n")
    }

    /// The response as bytes.
    ///
    /// - Parameters:
    ///   - isHead: the request was HEAD: the fields speak of the body, which is not sent (RFC 9110 §9.3.2).
    ///   - keepsAlive: without it `Connection: close` tells the peer that nothing more is read.
    public func serialized(isHead: Bool = false, keepsAlive: Bool) -> [UInt8] {
        var writer = PageHeadWriter(startLine: "HTTP/1.1 \(status) \(reasonPhrase(status))")
        writer.append(fields)
        // Neither has content, and must not speak of its length (RFC 9110 §8.6).
        let hasContent = status >= 200 && status != 204 && status != 304
        if hasContent { writer.append("content-length", String(body.count)) }
        if !keepsAlive { writer.append("connection", "close") }
        return writer.finished() + (isHead || !hasContent ? [] : body)
    }

    /// The interim response that a client with `Expect: 100-continue` waits for.
    public static let `continue` = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
}

/// Writes a head. Values that could start a line of their own are made harmless, whoever made them.
private struct PageHeadWriter {
    private var bytes: [UInt8]

    init(startLine: String) {
        bytes = []
        bytes.reserveCapacity(256)
        appendLine(startLine)
    }

    mutating func append(_ fields: HTTP1Fields) {
        for field in fields.all { append(field.name, field.value) }
    }

    mutating func append(_ name: String, _ value: String) { appendLine("\(name): \(value)") }

    mutating func finished() -> [UInt8] { bytes + [0x0d, 0x0a] }

    private mutating func appendLine(_ text: String) {
        for byte in text.utf8 { bytes.append(byte < 0x20 && byte != 0x09 || byte == 0x7f ? 0x20 : byte) }
        bytes += [0x0d, 0x0a]
    }
}
