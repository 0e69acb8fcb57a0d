/// What an unquoted YAML scalar is, by the rules of the YAML reader in Kubernetes' tools (sigs.k8s.io/yaml).
///
/// It is YAML 1.1 in its booleans (`yes`, `on`, `y`) and in `0777` being octal, YAML 1.2 in `0o17`, and neither in
/// that dates stay strings and base 60 does not exist. Manifests depend on each of these.
enum YAMLScalar {
    static func resolve(_ text: String) -> Node.Content {
        guard let first = text.utf8.first else { return .null }
        switch first {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."):
            return number(text) ?? .string(text)
        default:
            return word(text) ?? .string(text)
        }
    }

    private static func word(_ text: String) -> Node.Content? {
        switch text {
        case "~", "null", "Null", "NULL": .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y": .boolean(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N": .boolean(false)
        default: nil
        }
    }

    /// A number, when `text` is one; also behind an explicit `!!int` or `!!float`.
    static func number(_ text: String) -> Node.Content? {
        switch text {
        case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF": return .number(.infinity)
        case "-.inf", "-.Inf", "-.INF": return .number(-.infinity)
        case ".nan", ".NaN", ".NAN": return .number(.nan)
        default: break
        }
        let plain = text.contains("_") ? String(text.filter { $0 != "_" }) : text
        if let value = integer(plain) { return .integer(value) }
        return isDecimal(plain) ? Double(plain).map(Node.Content.number) : nil
    }

    /// Decimal, `0x`, `0o`, `0b`, and a leading zero for octal, with an optional sign.
    static func integer(_ text: String) -> Int64? {
        var digits = text[...]
        var sign = ""
        if let first = digits.first, first == "-" || first == "+" {
            sign = first == "-" ? "-" : ""
            digits = digits.dropFirst()
        }
        // A second sign would be taken by the conversion below.
        guard let first = digits.utf8.first, isDigit(first) else { return nil }
        var radix = 10
        if first == UInt8(ascii: "0"), digits.utf8.count > 1 {
            switch digits.dropFirst().first {
            case "x", "X": (radix, digits) = (16, digits.dropFirst(2))
            case "o", "O": (radix, digits) = (8, digits.dropFirst(2))
            case "b", "B": (radix, digits) = (2, digits.dropFirst(2))
            default: (radix, digits) = (8, digits.dropFirst())
            }
            guard let next = digits.first, next != "-", next != "+" else { return nil }
        }
        return Int64(sign + digits, radix: radix)
    }

    /// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`: what counts as a floating-point number, unlike the
    /// hexadecimal floats and `infinity` that a conversion function would take.
    private static func isDecimal(_ text: String) -> Bool {
        var rest = text.utf8[...]
        func skipSign() {
            if let c = rest.first, c == UInt8(ascii: "-") || c == UInt8(ascii: "+") {
                rest = rest.dropFirst()
            }
        }
        func skipDigits() -> Int {
            let digits = rest.prefix(while: isDigit).count
            rest = rest.dropFirst(digits)
            return digits
        }
        skipSign()
        var digits = skipDigits()
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            digits += skipDigits()
        }
        guard digits > 0 else { return false }
        if let c = rest.first, c == UInt8(ascii: "e") || c == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            skipSign()
            guard skipDigits() > 0 else { return false }
        }
        return rest.isEmpty
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
