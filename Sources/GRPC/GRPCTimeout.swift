/// The `grpc-timeout` header: at most eight digits and a unit ("gRPC over HTTP2").
enum GRPCTimeout {
    private static let units: [(letter: Character, nanoseconds: Int64)] = [
        ("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000),
        ("H", 3_600_000_000_000),
    ]

    /// The finest unit that holds it, rounded down: the peer must not believe to have longer than we wait.
    static func encode(_ timeout: Duration) -> String {
        let nanoseconds = max(timeout.nanoseconds, 0)
        for unit in units {
            let count = nanoseconds / unit.nanoseconds
            if count <= 99_999_999 { return "\(count)\(unit.letter)" }
        }
        return "99999999H"
    }

    /// - Returns: nil when the text is no timeout, which makes the request malformed.
    static func decode(_ text: String) -> Duration? {
        guard let letter = text.last, let unit = units.first(where: { $0.letter == letter }) else {
            return nil
        }
        let digits = text.dropLast()
        guard (1...8).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let count = Int64(digits)
        else { return nil }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: unit.nanoseconds)
        return .nanoseconds(overflow ? .max : nanoseconds)
    }
}

extension Duration {
    /// Whole nanoseconds, at most what fits: 292 years.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, overflowed) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return overflowed ? .max : sum
    }
}
