extension String: OptionValue {
    /// Any text but an empty one: `--node=` is a variable that was not set, not a name.
    public init?(option text: String) {
        guard !text.isEmpty else { return nil }
        self = text
    }

    public static var expectation: String { "a text with at least one character" }
}

extension Int: OptionValue {
    public init?(option text: String) {
        self.init(text)
    }

    public static var expectation: String { "a whole number" }
}

extension UInt16: OptionValue {
    public init?(option text: String) {
        self.init(text)
    }

    public static var expectation: String { "a number from 0 to 65535" }
}

extension UInt32: OptionValue {
    public init?(option text: String) {
        self.init(text)
    }

    public static var expectation: String { "a number from 0 to 4294967295" }
}

extension Double: OptionValue {
    public init?(option text: String) {
        guard let value = Double(text), value.isFinite else { return nil }
        self = value
    }

    public static var expectation: String { "a number" }
}

extension Bool: OptionValue {
    public init?(option text: String) {
        switch text.lowercased() {
        case "true", "yes", "on", "1": self = true
        case "false", "no", "off", "0": self = false
        default: return nil
        }
    }

    public static var expectation: String { "true or false" }
}

extension Duration: OptionValue {
    /// Whole numbers with units, from the largest to the smallest: `1h30m`, `10s`, `250ms`.
    public init?(option text: String) {
        let units: [(name: String, nanoseconds: Int64)] = [
            ("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
            ("ms", 1_000_000), ("us", 1_000), ("ns", 1),
        ]
        var rest = text[...]
        var total: Int64 = 0
        var nextUnit = 0
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            let name = rest.dropFirst(digits.count).prefix { $0.isASCII && $0.isLetter }
            guard let count = Int64(digits),
                let unit = units.indices.first(where: { $0 >= nextUnit && units[$0].name == name })
            else { return nil }
            let (part, isTooLong) = count.multipliedReportingOverflow(by: units[unit].nanoseconds)
            let (sum, isOver) = total.addingReportingOverflow(part)
            guard !isTooLong, !isOver else { return nil }
            total = sum
            nextUnit = unit + 1
            rest = rest.dropFirst(digits.count + name.count)
        }
        guard nextUnit > 0 else { return nil }
        self = .nanoseconds(total)
    }

    public static var expectation: String { "a duration such as 10s, 250ms or 1h30m" }
}
