import Linux

/// RFC 3339 times of a clock that mostly stays within one second, whose text is then kept.
struct Timestamp: Sendable {
    private let fractionDigits: Int
    private var second: Int64?
    private var text: [UInt8] = []

    /// - Parameter fractionDigits: of the second; 6 at most.
    init(fractionDigits: Int) {
        self.fractionDigits = min(max(fractionDigits, 0), 6)
    }

    mutating func text(of time: WallClock) -> [UInt8] {
        if second != time.seconds {
            second = time.seconds
            // Without the digits that are not asked for, which stand before the last byte.
            text = Array(WallClock(seconds: time.seconds).rfc3339.utf8.dropLast(1 + 6 - fractionDigits))
            text.append(UInt8(ascii: "Z"))
        }
        // `…T03:04:05.678901Z`: the digits before the last byte.
        var rest = UInt64(max(0, time.nanoseconds))
        for _ in fractionDigits..<9 { rest /= 10 }
        for index in stride(from: text.count - 2, to: text.count - 2 - fractionDigits, by: -1) {
            text[index] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        return text
    }
}
