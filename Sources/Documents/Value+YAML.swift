extension Value {
    /// YAML in block style, ending with a line feed. What it writes reads back as the same value, here and in
    /// `kubectl`.
    public func yaml() -> String {
        var bytes: [UInt8] = []
        switch self {
        case .object(let members) where !members.isEmpty: Self.write(members, to: &bytes, indentation: 0)
        case .list(let elements) where !elements.isEmpty: Self.write(elements, to: &bytes, indentation: 0)
        default:
            writeInline(to: &bytes)
            bytes.append(UInt8(ascii: "\n"))
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func write(
        _ members: [Member], to out: inout [UInt8], indentation: Int, firstIsIndented: Bool = false
    ) {
        for (index, member) in members.enumerated() {
            if index > 0 || !firstIsIndented { indent(&out, indentation) }
            writeScalar(member.key, to: &out)
            out.append(UInt8(ascii: ":"))
            switch member.value {
            case .object(let children) where !children.isEmpty:
                out.append(UInt8(ascii: "\n"))
                write(children, to: &out, indentation: indentation + 2)
            case .list(let elements) where !elements.isEmpty:
                out.append(UInt8(ascii: "\n"))
                write(elements, to: &out, indentation: indentation)
            default:
                out.append(UInt8(ascii: " "))
                member.value.writeInline(to: &out)
                out.append(UInt8(ascii: "\n"))
            }
        }
    }

    private static func write(_ elements: [Value], to out: inout [UInt8], indentation: Int) {
        for element in elements {
            indent(&out, indentation)
            out += "- ".utf8
            switch element {
            case .object(let members) where !members.isEmpty:
                write(members, to: &out, indentation: indentation + 2, firstIsIndented: true)
            case .list(let inner) where !inner.isEmpty:
                // A list directly in a list goes on a line of its own: plain, if not the shortest.
                out.removeLast()
                out.append(UInt8(ascii: "\n"))
                write(inner, to: &out, indentation: indentation + 2)
            default:
                element.writeInline(to: &out)
                out.append(UInt8(ascii: "\n"))
            }
        }
    }

    private func writeInline(to out: inout [UInt8]) {
        switch self {
        case .string(let text): Self.writeScalar(text, to: &out)
        case .list: out += "[]".utf8
        case .object: out += "{}".utf8
        case .null, .boolean, .integer, .number: out += json().utf8
        }
    }

    private static func indent(_ out: inout [UInt8], _ count: Int) {
        out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: count))
    }

    /// Plain where it can be mistaken for nothing else; otherwise in double quotes, for which JSON's escapes serve.
    private static func writeScalar(_ text: String, to out: inout [UInt8]) {
        if isPlain(text) { out += text.utf8 } else { JSONText.write(text, to: &out) }
    }

    private static func isPlain(_ text: String) -> Bool {
        guard case .string = YAMLScalar.resolve(text), let first = text.utf8.first, let last = text.utf8.last,
            last != UInt8(ascii: " "), last != UInt8(ascii: ":"), !text.contains(": "), !text.contains(" #")
        else { return false }
        switch first {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "/"), UInt8(ascii: "_"), UInt8(ascii: "."):
            break
        default: return false
        }
        return text != "<<" && text.utf8.allSatisfy { (0x20...0x7e).contains($0) }
    }
}
