import HTTP2

/// What a caller or a server says beside its messages ("Custom-Metadata" of "gRPC over HTTP2").
///
/// Names that end in `-bin` have values of any bytes, which travel as base64; all others are visible ASCII.
public struct GRPCMetadata: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    private var entries: [Header] = []

    public init() {}

    public init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { append(name, value) }
    }

    /// What of a header block is metadata: not the fields that belong to HTTP or to gRPC itself.
    init(_ block: HeaderBlock) {
        for header in block where !Self.isReserved(header.name) { entries.append(header) }
    }

    public var isEmpty: Bool { entries.isEmpty }
    public var count: Int { entries.count }

    /// Adds a value of text. Bytes that no header can carry become `?`.
    public mutating func append(_ name: String, _ value: String) {
        let legal = String(
            decoding: value.utf8.map { (0x20...0x7e).contains($0) ? $0 : 0x3f }, as: UTF8.self)
        entries.append(Header(name.lowercased(), String(trimmed(legal[...]))))
    }

    /// Adds a value of bytes. `name` ends in `-bin`.
    public mutating func append(_ name: String, binary value: [UInt8]) {
        entries.append(Header(name.lowercased(), Base64.encode(value)))
    }

    /// Adds everything of `other`.
    public mutating func append(_ other: GRPCMetadata) { entries += other.entries }

    /// The first value of a name (in lower case), as it travels.
    public subscript(name: String) -> String? { entries.first { $0.name == name }?.value }

    /// The first value of a name that ends in `-bin`; nil also when it is no base64.
    public func binary(_ name: String) -> [UInt8]? { self[name].flatMap(Base64.decode) }

    func append(to block: inout HeaderBlock) {
        for entry in entries where !Self.isReserved(entry.name) { block.append(entry.name, entry.value) }
    }

    private static func isReserved(_ name: String) -> Bool {
        name.hasPrefix(":") || name.hasPrefix("grpc-") && name != "grpc-status-details-bin"
            || name == "content-type" || name == "te"
    }

    private func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0 == " " }
        return front.lastIndex { $0 != " " }.map { front[...$0] } ?? ""
    }
}

/// RFC 4648 §4. Written without padding, read with or without, as gRPC asks.
enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 4 / 3 + 4)
        var index = 0
        while index < bytes.count {
            let group = bytes[index..<min(index + 3, bytes.count)]
            let bits = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
            for position in 0...group.count { text.append(alphabet[bits >> (18 - 6 * position) & 63]) }
            index += 3
        }
        return String(decoding: text, as: UTF8.self)
    }

    static func decode(_ text: String) -> [UInt8]? {
        var digits = Array(text.utf8)[...]
        if digits.count % 4 == 0 {
            if digits.last == 0x3d { digits.removeLast() }
            if digits.last == 0x3d { digits.removeLast() }
        }
        guard digits.count % 4 != 1 else { return nil }
        var bytes: [UInt8] = []
        var bits = 0
        var bitCount = 0
        for digit in digits {
            guard let value = value(of: digit) else { return nil }
            bits = (bits << 6 | value) & 0xffff
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> bitCount))
            }
        }
        return bytes
    }

    private static func value(of digit: UInt8) -> Int? {
        switch digit {
        case 0x41...0x5a: Int(digit) - 0x41
        case 0x61...0x7a: Int(digit) - 0x61 + 26
        case 0x30...0x39: Int(digit) - 0x30 + 52
        case 0x2b: 62
        case 0x2f: 63
        default: nil
        }
    }
}
