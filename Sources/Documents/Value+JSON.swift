extension Value {
    /// JSON (RFC 8259) on one line, or indented by two spaces. Numbers that JSON cannot say become null.
    public func json(pretty: Bool = false) -> String {
        var bytes: [UInt8] = []
        writeJSON(to: &bytes, indentation: pretty ? 0 : nil)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func writeJSON(to out: inout [UInt8], indentation: Int?) {
        switch self {
        case .null: out += "null".utf8
        case .boolean(let value): out += (value ? "true" : "false").utf8
        case .integer(let value): out += value.description.utf8
        case .number(let value): out += value.decimalText.utf8
        case .string(let text): JSONText.write(text, to: &out)
        case .list(let elements):
            Self.writeContainer("[", "]", elements, to: &out, indentation) { element, out, inner in
                element.writeJSON(to: &out, indentation: inner)
            }
        case .object(let members):
            Self.writeContainer("{", "}", members, to: &out, indentation) { member, out, inner in
                JSONText.write(member.key, to: &out)
                out += (inner == nil ? ":" : ": ").utf8
                member.value.writeJSON(to: &out, indentation: inner)
            }
        }
    }

    private static func writeContainer<Element>(
        _ open: Unicode.Scalar, _ close: Unicode.Scalar, _ elements: [Element], to out: inout [UInt8],
        _ indentation: Int?, _ write: (Element, inout [UInt8], Int?) -> Void
    ) {
        out.append(UInt8(ascii: open))
        let inner = indentation.map { $0 + 2 }
        for (index, element) in elements.enumerated() {
            if index > 0 { out.append(UInt8(ascii: ",")) }
            newLine(&out, inner)
            write(element, &out, inner)
        }
        if !elements.isEmpty { newLine(&out, indentation) }
        out.append(UInt8(ascii: close))
    }

    private static func newLine(_ out: inout [UInt8], _ indentation: Int?) {
        guard let indentation else { return }
        out.append(UInt8(ascii: "\n"))
        out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: indentation))
    }
}

extension Double {
    /// The shortest decimal that reads back as this number, whole numbers without a fraction; `null` when there is
    /// none.
    fileprivate var decimalText: String {
        guard isFinite else { return "null" }
        return self == rounded() && magnitude < 1e15 ? "\(Int64(self))" : description
    }
}

/// Strings as JSON writes them.
enum JSONText {
    private static let hexDigits = Array("0123456789abcdef".utf8)

    static func write(_ text: String, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                out.append(UInt8(ascii: "\\"))
                out.append(byte)
            case UInt8(ascii: "\n"): out += "\\n".utf8
            case UInt8(ascii: "\r"): out += "\\r".utf8
            case UInt8(ascii: "\t"): out += "\\t".utf8
            case 0..<0x20, 0x7f:
                out += "\\u00".utf8
                out.append(hexDigits[Int(byte >> 4)])
                out.append(hexDigits[Int(byte & 0xf)])
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}
