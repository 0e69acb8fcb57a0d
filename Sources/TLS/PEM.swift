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
                    body.append(contentsOf: line)
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
        let encoded = Base64.encode(der)
        var start = 0
        while start < encoded.count {
            let end = min(start + 64, encoded.count)
            text += String(decoding: encoded[start..<end], as: UTF8.self) + "\n"
            start = end
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

/// RFC 4648 §4, strict: padding where it belongs, no stray bits; blanks are skipped.
enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xff, count: 256)
        for (value, letter) in alphabet.enumerated() { values[Int(letter)] = UInt8(value) }
        return values
    }()

    static func decode(_ text: [UInt8]) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3)
        var bits: UInt32 = 0
        var letters = 0
        var padding = 0
        for letter in text where letter != 0x20 && letter != 0x09 {
            if letter == 0x3d {
                padding += 1
                continue
            }
            let value = values[Int(letter)]
            guard value != 0xff, padding == 0 else { return nil }
            bits = bits << 6 | UInt32(value)
            letters += 1
            if letters % 4 == 0 {
                bytes.append(UInt8(truncatingIfNeeded: bits >> 16))
                bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
                bytes.append(UInt8(truncatingIfNeeded: bits))
                bits = 0
            }
        }
        switch (letters % 4, padding) {
        case (0, 0): return bytes
        case (2, 2) where bits & 0xf == 0:
            bytes.append(UInt8(truncatingIfNeeded: bits >> 4))
            return bytes
        case (3, 1) where bits & 0x3 == 0:
            bytes.append(UInt8(truncatingIfNeeded: bits >> 10))
            bytes.append(UInt8(truncatingIfNeeded: bits >> 2))
            return bytes
        default: return nil
        }
    }

    static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let count = min(3, bytes.count - start)
            let first = UInt32(bytes[start]) << 16
            let second = count > 1 ? UInt32(bytes[start + 1]) << 8 : 0
            let third = count > 2 ? UInt32(bytes[start + 2]) : 0
            let bits = first | second | third
            text.append(alphabet[Int(bits >> 18)])
            text.append(alphabet[Int(bits >> 12 & 0x3f)])
            text.append(count > 1 ? alphabet[Int(bits >> 6 & 0x3f)] : 0x3d)
            text.append(count > 2 ? alphabet[Int(bits & 0x3f)] : 0x3d)
        }
        return text
    }
}
