import Encodings
import HTTP2

/// What a caller or a server says beside its messages ("Custom-Metadata" of "gRPC over HTTP2").
///
/// Names that end in `-bin` have values of any bytes, which travel as base64, without padding and read with or without; all others are visible ASCII.
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
        entries.append(Header(name.lowercased(), Base64.encode(value, isPadded: false)))
    }

    /// Adds everything of `other`.
    public mutating func append(_ other: GRPCMetadata) { entries += other.entries }

    /// The first value of a name (in lower case), as it travels.
    public subscript(name: String) -> String? { entries.first { $0.name == name }?.value }

    /// The first value of a name that ends in `-bin`; nil also when it is no base64.
    public func binary(_ name: String) -> [UInt8]? {
        self[name].flatMap { Base64.decode($0.utf8, padding: .optional) }
    }

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
