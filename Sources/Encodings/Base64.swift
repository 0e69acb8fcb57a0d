/// Bytes as text (RFC 4648).
public enum Base64 {
    public enum Alphabet: Sendable {
        /// `+` and `/` (§4).
        case standard
        /// `-` and `_`, which mean nothing in an address, a header or a file's name (§5).
        case url
    }

    public enum Padding: Sendable { case required, optional, none }

    /// The bytes, or nil where `text` is not what these rules allow. One value has one spelling, but for optional padding.
    public static func decode(
        _ text: some Sequence<UInt8>, _ alphabet: Alphabet = .standard, padding rule: Padding = .required
    ) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.underestimatedCount / 4 * 3)
        var accumulator: UInt32 = 0
        var bits: UInt32 = 0
        var digits = 0
        var padding = 0
        for character in text {
            if character == UInt8(ascii: "=") {
                padding += 1
                continue
            }
            guard padding == 0, let value = value(of: character, alphabet) else { return nil }
            digits += 1
            accumulator = (accumulator << 6 | value) & 0xffff
            bits += 6
            if bits >= 8 {
                bits -= 8
                result.append(UInt8(truncatingIfNeeded: accumulator >> bits))
            }
        }
        // A digit alone holds no byte, and bits behind the last byte have to be zero.
        guard digits % 4 != 1, accumulator & (1 << bits - 1) == 0 else { return nil }
        let isPadded = padding == (4 - digits % 4) % 4
        switch rule {
        case .required: return isPadded ? result : nil
        case .optional: return isPadded || padding == 0 ? result : nil
        case .none: return padding == 0 ? result : nil
        }
    }

    public static func encode(
        _ bytes: some Collection<UInt8>, _ alphabet: Alphabet = .standard, isPadded: Bool = true
    ) -> String {
        let digits = Self.digits(of: alphabet)
        var result: [UInt8] = []
        result.reserveCapacity((bytes.count + 2) / 3 * 4)
        var accumulator: UInt32 = 0
        var bits: UInt32 = 0
        for byte in bytes {
            accumulator = (accumulator << 8 | UInt32(byte)) & 0xffff
            bits += 8
            while bits >= 6 {
                bits -= 6
                result.append(digits[Int(accumulator >> bits & 0x3f)])
            }
        }
        if bits > 0 { result.append(digits[Int(accumulator << (6 - bits) & 0x3f)]) }
        while isPadded, result.count % 4 != 0 { result.append(UInt8(ascii: "=")) }
        return String(decoding: result, as: UTF8.self)
    }

    private static func value(of character: UInt8, _ alphabet: Alphabet) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character) - 65
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character) - 71
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character) + 4
        case UInt8(ascii: "+") where alphabet == .standard, UInt8(ascii: "-") where alphabet == .url: 62
        case UInt8(ascii: "/") where alphabet == .standard, UInt8(ascii: "_") where alphabet == .url: 63
        default: nil
        }
    }

    private static let common = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    private static let standardDigits = Array((common + "+/").utf8)
    private static let urlDigits = Array((common + "-_").utf8)

    private static func digits(of alphabet: Alphabet) -> [UInt8] {
        alphabet == .standard ? standardDigits : urlDigits
    }
}
