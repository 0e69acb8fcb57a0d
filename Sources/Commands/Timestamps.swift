import Linux

/// Seconds since the epoch of an RFC 3339 date in UTC (`2026-01-02T03:04:05Z`, a fraction is passed over); nil for
/// anything else.
func secondsSinceEpoch(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 20, bytes.last == UInt8(ascii: "Z"), bytes[4] == UInt8(ascii: "-"),
        bytes[7] == UInt8(ascii: "-"), bytes[10] == UInt8(ascii: "T"), bytes[13] == UInt8(ascii: ":"),
        bytes[16] == UInt8(ascii: ":")
    else { return nil }
    func number(_ range: Range<Int>) -> Int64? {
        let digits = bytes[range]
        guard digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        return digits.reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) }
    }
    guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
        let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
        (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60
    else { return nil }
    // Days of a civil date, by eras of 400 years that begin in March.
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    let days = era * 146_097 + dayOfEra - 719_468
    return days * 86_400 + hour * 3_600 + minute * 60 + second
}

/// A span as people say it, in its two largest units: `23h59m`, `4m10s`, `12s`, `3d4h`.
func spanText(_ seconds: Int64) -> String {
    let units: [(Int64, String)] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")]
    var rest = max(0, seconds)
    guard let first = units.firstIndex(where: { rest >= $0.0 }) else { return "0s" }
    var text = ""
    for (size, name) in units[first...].prefix(2) {
        let amount = rest / size
        if amount > 0 || text.isEmpty { text += "\(amount)\(name)" }
        rest %= size
    }
    return text
}

/// What is left until a date, or how long it is over.
func remainingText(until date: String, now: WallClock) -> String? {
    guard let end = secondsSinceEpoch(date) else { return nil }
    return end >= now.seconds ? spanText(end - now.seconds) : "over for \(spanText(now.seconds - end))"
}

/// How long ago a date is.
func agoText(since date: String, now: WallClock) -> String? {
    secondsSinceEpoch(date).map { spanText(now.seconds - $0) }
}
