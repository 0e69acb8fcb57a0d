import Documents
import Routing

// What routes of Istio and of the Gateway API are written with.

extension Cursor {
    /// `10s`, `1h30m`, `1.5s`, `100ms` (Istio's and the Gateway API's durations).
    func duration(atLeast minimum: Duration = .zero) -> Duration? {
        guard let text = nonEmptyString() else { return nil }
        var rest = text.utf8[...]
        var total = Duration.zero
        repeat {
            let digits = rest.prefix { (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { (0x61...0x7a).contains($0) }
            rest = rest.dropFirst(unit.count)
            let seconds: Double? =
                switch String(Substring(unit)) {
                case "h": 3_600
                case "m": 60
                case "s": 1
                case "ms": 0.001
                case "us": 0.000_001
                default: nil
                }
            guard let count = Double(String(Substring(digits))), let seconds, count * seconds < 1e9,
                digits.count <= 16
            else {
                error("\(quoted(text)) is no duration such as 10s, 1m30s or 250ms")
                return nil
            }
            total += .seconds(count * seconds)
        } while !rest.isEmpty
        guard total >= minimum else {
            error("\(text) is shorter than \(minimum)")
            return nil
        }
        return total
    }

    /// A number, whole or not.
    func number(in range: ClosedRange<Double>) -> Double? {
        let value: Double
        switch node.content {
        case .integer(let whole): value = Double(whole)
        case .number(let number): value = number
        default:
            error("expected a number, got \(node.kindDescription)")
            return nil
        }
        guard range.contains(value) else {
            error("\(value) is not between \(range.lowerBound) and \(range.upperBound)")
            return nil
        }
        return value
    }

    /// A regular expression of RE2 that can be used.
    func regex() -> String? {
        guard let text = nonEmptyString() else { return nil }
        do throws(PatternError) {
            _ = try Pattern(text)
            return text
        } catch {
            self.error("\(error)")
            return nil
        }
    }

    /// Istio's StringMatch.
    ///
    /// - Parameter allowsPresence: an empty one asks for presence.
    func stringMatch(allowsPresence: Bool = false, allowsEmptyPrefix: Bool = false) -> StringMatch? {
        guard let fields = fields() else { return nil }
        defer { fields.close() }
        let given = ["exact", "prefix", "regex"].compactMap { name in fields[name].map { (name, $0) } }
        guard given.count <= 1 else {
            error("only one of exact, prefix and regex can be used")
            return nil
        }
        guard let (name, value) = given.first else {
            if allowsPresence { return .present }
            error("one of exact, prefix and regex is needed")
            return nil
        }
        switch name {
        case "exact": return value.string().map { .exact($0) }
        case "prefix":
            return (allowsEmptyPrefix ? value.string() : value.nonEmptyString()).map { .prefix($0) }
        default:
            // Not RE2, but how Istio's users ask for a header of any value.
            if allowsPresence, value.node.content == .string("*") { return .present }
            return value.regex().map { .regex($0) }
        }
    }

    /// `NAME: {exact: …}`, in the order of the names.
    func namedMatches(lowercasingNames: Bool) -> [NamedMatch] {
        entries("a mapping of names to matches").compactMap { entry in
            if entry.key.isEmpty || lowercasingNames && entry.key.hasPrefix(":") {
                entry.value.error("\(quoted(entry.key)) cannot be matched here")
                return nil
            }
            if entry.key.hasPrefix("@request.auth.claims") {
                entry.value.error("claims of a token can be matched at a gateway only")
                return nil
            }
            // `name:` with nothing behind it asks for presence, too.
            let match: StringMatch? =
                entry.value.node.content == .null ? .present : entry.value.stringMatch(allowsPresence: true)
            return match.map { NamedMatch(lowercasingNames ? entry.key.lowercased() : entry.key, $0) }
        }.sorted { $0.name < $1.name }
    }

    /// A name that a header can have (RFC 9110 §5.1).
    func headerName(_ text: String) -> String? {
        guard !text.isEmpty, text.utf8.allSatisfy({ isTokenByte($0) }) else {
            error("\(quoted(text)) is no name of a header")
            return nil
        }
        return text.lowercased()
    }

    private func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// A value that a header can have: no control characters.
    func headerValue() -> String? {
        guard let text = string() else { return nil }
        guard text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else {
            error("a header's value has no control characters")
            return nil
        }
        return text
    }

    /// A full or short name of a service, or a wildcard.
    func routeHost(allowsWildcard: Bool) -> String? {
        guard let text = nonEmptyString() else { return nil }
        if text == "*", allowsWildcard { return text }
        let name = allowsWildcard && text.hasPrefix("*.") ? String(text.dropFirst(2)) : text
        guard Names.problem(subdomain: name) == nil else {
            error("\(quoted(text)) is no host name")
            return nil
        }
        return text
    }

    /// `value` of Istio's Percent.
    func percent() -> Fraction? {
        guard let fields = fields() else { return nil }
        defer { fields.close() }
        return Fraction(percent: fields["value"]?.number(in: 0...100) ?? 0)
    }
}
