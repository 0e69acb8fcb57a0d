/// A request's head as routing looks at it: all bytes in one array, so that a head that is used again and again
/// (`removeAll`, then appended to) allocates nothing.
public struct RequestHead: Sendable {
    public struct Field: Sendable {
        /// In `bytes`; in lower case.
        public var name: Range<Int>
        public var value: Range<Int>
    }

    public private(set) var bytes: [UInt8] = []
    /// Without the pseudo-headers.
    public private(set) var fields: [Field] = []
    public private(set) var method = 0..<0
    public private(set) var scheme = 0..<0
    /// With the port, where the client sent one.
    public private(set) var authority = 0..<0
    /// With the query. What is to be normalised in it (RFC 3986 §6.2.2) has been.
    public private(set) var path = 0..<0

    public init() {}

    public init(
        method: String = "GET", scheme: String = "http", authority: String, path: String,
        headers: [(String, String)] = []
    ) {
        append(":method", method)
        append(":scheme", scheme)
        append(":authority", authority)
        append(":path", path)
        for (name, value) in headers { append(name, value) }
    }

    public mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        fields.removeAll(keepingCapacity: true)
        method = 0..<0
        scheme = 0..<0
        authority = 0..<0
        path = 0..<0
    }

    /// Adds a field or a pseudo-header. Capitals of the name become small letters.
    public mutating func append(_ name: String, _ value: String) {
        append(name: name.utf8, value: value.utf8)
    }

    public mutating func append(name: some Collection<UInt8>, value: some Collection<UInt8>) {
        let start = bytes.count
        for byte in name { bytes.append(lowercased(byte)) }
        let middle = bytes.count
        bytes.append(contentsOf: value)
        let nameRange = start..<middle
        let valueRange = middle..<bytes.count
        guard !nameRange.isEmpty, bytes[start] == UInt8(ascii: ":") else {
            fields.append(Field(name: nameRange, value: valueRange))
            return
        }
        switch nameRange.count {
        case 5: path = valueRange
        case 7: if bytes[start + 1] == UInt8(ascii: "m") { method = valueRange } else { scheme = valueRange }
        case 10: authority = valueRange
        default: break
        }
    }

    /// The path without query and fragment.
    public var pathOnly: Range<Int> {
        for index in path {
            let byte = bytes[index]
            if byte == UInt8(ascii: "?") || byte == UInt8(ascii: "#") { return path.lowerBound..<index }
        }
        return path
    }

    /// What follows the `?`.
    var query: Range<Int> {
        let end = pathOnly.upperBound
        guard end < path.upperBound, bytes[end] == UInt8(ascii: "?") else { return end..<end }
        var last = end + 1
        while last < path.upperBound, bytes[last] != UInt8(ascii: "#") { last += 1 }
        return (end + 1)..<last
    }

    public func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
}

/// Who sends a request, and to which port of the service: what a match may ask for besides the head.
public struct RequestOrigin: Hashable, Sendable {
    /// The service's port.
    public var port: UInt16
    public var namespace: String
    public var labels: [String: String]

    public init(port: UInt16 = 80, namespace: String = "", labels: [String: String] = [:]) {
        self.port = port
        self.namespace = namespace
        self.labels = labels
    }
}

func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }
