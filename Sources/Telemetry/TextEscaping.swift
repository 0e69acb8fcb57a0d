import Address

/// Appends `text` between double quotes so that it can neither end its value nor its line, in JSON's escapes
/// (RFC 8259 §7).
///
/// Beyond what JSON asks for, everything is escaped that a terminal or a line-based tool would act on: DEL, the C1
/// controls, the two Unicode line ends, and the marks that reorder what is shown. Names and error texts come from peers,
/// certificates and API objects; what a reader of the log sees must be what happened.
func appendQuoted(_ text: String, to bytes: inout [UInt8]) {
    bytes.append(quote)
    appendEscaped(text, to: &bytes)
    bytes.append(quote)
}

/// The same without the quotes.
func appendEscaped(_ text: String, to bytes: inout [UInt8]) {
    // Almost every value is plain ASCII, which is copied as it is.
    if isPlain(text) {
        bytes.append(utf8: text)
    } else {
        for scalar in text.unicodeScalars { appendEscaped(scalar, to: &bytes) }
    }
}

private func isPlain(_ text: String) -> Bool {
    let bytes = text.utf8.span
    var flaws: UInt8 = 0
    // To the end in any case: without a way out in the middle the processor looks at sixteen at once.
    for index in bytes.indices {
        let byte = bytes[index]
        flaws |= byte >= 0x20 && byte < 0x7f && byte != quote && byte != backslash ? 0 : 1
    }
    return flaws == 0
}

extension [UInt8] {
    /// Appends a text as it is, in one piece.
    mutating func append(utf8 text: String) {
        let isDone: Void? = unsafe text.utf8.withContiguousStorageIfAvailable {
            unsafe append(contentsOf: $0)
        }
        if isDone == nil { append(contentsOf: text.utf8) }
    }
}

private func appendEscaped(_ scalar: Unicode.Scalar, to bytes: inout [UInt8]) {
    switch scalar {
    case "\"": bytes.append(contentsOf: [backslash, quote])
    case "\\": bytes.append(contentsOf: [backslash, backslash])
    case "\n": bytes.append(contentsOf: [backslash, UInt8(ascii: "n")])
    case "\r": bytes.append(contentsOf: [backslash, UInt8(ascii: "r")])
    case "\t": bytes.append(contentsOf: [backslash, UInt8(ascii: "t")])
    default:
        guard isDangerous(scalar) else {
            bytes.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
            return
        }
        // All of them lie in the basic plane, so one escape of four digits says it.
        bytes.append(contentsOf: [backslash, UInt8(ascii: "u")])
        for shift in stride(from: 12, through: 0, by: -4) {
            bytes.append(hexDigits[Int(scalar.value >> UInt32(shift)) & 0xf])
        }
    }
}

private func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f...0x9f, 0x061c, 0x200b...0x200f, 0x2028...0x202e, 0x2060...0x2069, 0xfeff: true
    default: false
    }
}

private let quote = UInt8(ascii: "\"")
private let backslash = UInt8(ascii: "\\")
private let hexDigits = Array("0123456789abcdef".utf8)

/// Appends a decimal number without building a string.
func appendDecimal(_ number: UInt64, to bytes: inout [UInt8]) {
    // As many as the largest has; filled from the end.
    var digits: [20 of UInt8] = .init(repeating: 0)
    var first = digits.count
    var rest = number
    repeat {
        first -= 1
        digits[first] = UInt8(ascii: "0") + UInt8(rest % 10)
        rest /= 10
    } while rest > 0
    for index in first..<digits.count { bytes.append(digits[index]) }
}

/// Appends `10.0.0.1:80` or `[::1]:80`, the first without building a string.
func appendAddress(_ value: SocketAddress, to bytes: inout [UInt8]) {
    guard let number = value.address.ipv4 else {
        bytes.append(utf8: value.description)
        return
    }
    for shift in stride(from: UInt32(24), through: 0, by: -8) {
        appendDecimal(UInt64(number >> shift & 255), to: &bytes)
        bytes.append(UInt8(ascii: shift > 0 ? "." : ":"))
    }
    appendDecimal(UInt64(value.port), to: &bytes)
}
