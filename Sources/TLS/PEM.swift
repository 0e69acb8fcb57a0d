import Encodings

/// Textual encoding of keys and certificates (RFC 7468): read strictly, within limits, by nobody else's code.
enum PEM {
    struct Block: Equatable {
        let label: String
        let der: [UInt8]
    }

    /// Longest text that is read: some hundred certificates.
    static let maximumByteCount = 1 << 20
    static let maximumBlocks = 512

    /// The blocks of a text; anything between them is commentary (§2).
    static func blocks(in text: String) throws(TLSError) -> [Block] {
        guard text.utf8.count <= maximumByteCount else {
            throw .malformed("PEM", reason: "longer than \(maximumByteCount) bytes")
        }
        var blocks: [Block] = []
        var label: String?
        var body: [UInt8] = []
        for line in text.utf8.split(whereSeparator: { $0 == 10 || $0 == 13 }) {
            if let current = label {
                if let end = boundary(line, "-----END ") {
                    guard end == current else { throw .malformed("PEM", reason: "\(current) ends as \(end)") }
                    guard blocks.count < maximumBlocks else {
                        throw .malformed("PEM", reason: "more than \(maximumBlocks) blocks")
                    }
                    guard let der = Base64.decode(body), !der.isEmpty else {
                        throw .malformed("PEM", reason: "\(current) is not base64")
                    }
                    blocks.append(Block(label: current, der: der))
                    (label, body) = (nil, [])
                } else {
                    body.append(contentsOf: line.lazy.filter { $0 != 0x20 && $0 != 0x09 })
                }
            } else {
                label = boundary(line, "-----BEGIN ")
            }
        }
        if let label { throw .malformed("PEM", reason: "\(label) has no end") }
        return blocks
    }

    static func encode(_ label: String, _ der: [UInt8]) -> String {
        var text = "-----BEGIN \(label)-----\n"
        var encoded = Base64.encode(der)[...]
        while !encoded.isEmpty {
            text += encoded.prefix(64) + "\n"
            encoded = encoded.dropFirst(64)
        }
        return text + "-----END \(label)-----\n"
    }

    private static func boundary(_ line: Substring.UTF8View, _ opening: StaticString) -> String? {
        var text = Substring(line)
        while text.last == " " || text.last == "\t" { text.removeLast() }
        guard text.hasPrefix("\(opening)"), text.hasSuffix("-----") else { return nil }
        let label = text.dropFirst(opening.utf8CodeUnitCount).dropLast(5)
        return label.isEmpty ? nil : String(label)
    }
}
