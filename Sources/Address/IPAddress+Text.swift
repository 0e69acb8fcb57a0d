extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Parses `10.0.0.1` and every form of RFC 4291 §2.2, without zone. Nil for anything else: no octal, no short forms.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        if bytes.contains(UInt8(ascii: ":")) {
            guard let halves = parseIPv6(bytes[...]) else { return nil }
            self.init(ipv6High: halves.high, low: halves.low)
        } else {
            guard let number = parseIPv4(bytes[...]) else { return nil }
            self.init(ipv4: number)
        }
    }

    /// Dotted decimal, or the form of RFC 5952.
    public var description: String {
        if let number = ipv4 {
            return unsafe String(unsafeUninitializedCapacity: 15) { unsafe writeIPv4(number, to: $0) }
        }
        let (high, low) = ipv6
        let groups = [high, low].flatMap { word in
            stride(from: 48, through: 0, by: -16).map { UInt16(truncatingIfNeeded: word >> $0) }
        }
        // The leftmost of the longest runs of at least two zero groups becomes "::" (RFC 5952 §4.2).
        var best = 0..<0
        var start = 0
        while start < groups.count {
            var end = start
            while end < groups.count && groups[end] == 0 { end += 1 }
            if end - start > max(best.count, 1) { best = start..<end }
            start = max(end, start + 1)
        }
        func join(_ part: ArraySlice<UInt16>) -> String {
            part.map { String($0, radix: 16) }.joined(separator: ":")
        }
        if best.isEmpty { return join(groups[...]) }
        return join(groups[..<best.lowerBound]) + "::" + join(groups[best.upperBound...])
    }
}

/// A decimal number of at most `digits` digits without leading zero, up to `limit`.
func parseDecimal(_ text: ArraySlice<UInt8>, digits: Int, limit: UInt32) -> UInt32? {
    guard (1...digits).contains(text.count), text.count == 1 || text.first != UInt8(ascii: "0") else {
        return nil
    }
    var value: UInt32 = 0
    for byte in text {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
        value = value * 10 + UInt32(byte - UInt8(ascii: "0"))
    }
    return value <= limit ? value : nil
}

private func parseIPv4(_ text: ArraySlice<UInt8>) -> UInt32? {
    let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var number: UInt32 = 0
    for part in parts {
        guard let octet = parseDecimal(part, digits: 3, limit: 255) else { return nil }
        number = number << 8 | octet
    }
    return number
}

private func parseIPv6(_ text: ArraySlice<UInt8>) -> (high: UInt64, low: UInt64)? {
    // At most one "::"; what stands before and behind it are plain groups.
    var before: [UInt16] = []
    var behind: [UInt16]?
    var rest = text
    let colon = UInt8(ascii: ":")
    if rest.first == colon {
        guard rest.dropFirst().first == colon else { return nil }
        rest = rest.dropFirst(2)
        behind = []
    }
    while !rest.isEmpty {
        let group = rest.prefix { $0 != colon }
        guard !group.isEmpty else { return nil }
        let isLast = group.endIndex == rest.endIndex
        if isLast && group.contains(UInt8(ascii: ".")) {
            guard let number = parseIPv4(group) else { return nil }
            let halves = [UInt16(truncatingIfNeeded: number >> 16), UInt16(truncatingIfNeeded: number)]
            if behind != nil { behind?.append(contentsOf: halves) } else { before.append(contentsOf: halves) }
            break
        }
        guard group.count <= 4, group.allSatisfy(isHexDigit),
            let value = UInt16(String(decoding: group, as: UTF8.self), radix: 16)
        else { return nil }
        if behind != nil { behind?.append(value) } else { before.append(value) }
        if isLast { break }
        rest = rest[group.endIndex...].dropFirst()
        if rest.first == colon {
            guard behind == nil else { return nil }
            behind = []
            rest = rest.dropFirst()
        } else if rest.isEmpty {
            return nil
        }
    }
    var groups = before
    if let behind {
        guard before.count + behind.count <= 7 else { return nil }
        groups += Array(repeating: 0, count: 8 - before.count - behind.count) + behind
    }
    guard groups.count == 8 else { return nil }
    let fold = { (part: ArraySlice<UInt16>) in part.reduce(UInt64(0)) { $0 << 16 | UInt64($1) } }
    return (fold(groups[..<4]), fold(groups[4...]))
}

private func isHexDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "A")...UInt8(ascii: "F"):
        true
    default: false
    }
}

/// `10.0.0.1:80` and nothing else, by the same rules as the parts by themselves.
func parseIPv4WithPort(_ text: UnsafeBufferPointer<UInt8>) -> (UInt32, UInt16)? {
    guard text.count <= 21 else { return nil }
    var (number, part, digits, parts) = (UInt32(0), UInt32(0), 0, 0)
    for index in text.indices {
        let byte = unsafe text[index]
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            // No leading zero, and no number that could overflow.
            guard digits == 0 || part > 0, digits < 5 else { return nil }
            part = part * 10 + UInt32(byte - UInt8(ascii: "0"))
            digits += 1
        case UInt8(ascii: ".") where parts < 3, UInt8(ascii: ":") where parts == 3:
            guard digits > 0, part <= 255 else { return nil }
            number = number << 8 | part
            (part, digits, parts) = (0, 0, parts + 1)
        default: return nil
        }
    }
    guard parts == 4, digits > 0, part <= 65_535 else { return nil }
    return (number, UInt16(part))
}

/// Writes dotted decimal, at most 15 bytes.
///
/// - Returns: how many bytes.
func writeIPv4(_ number: UInt32, to bytes: UnsafeMutableBufferPointer<UInt8>) -> Int {
    var end = 0
    for shift in stride(from: UInt32(24), through: 0, by: -8) {
        unsafe writeDecimal(number >> shift & 255, to: bytes, at: &end)
        if shift > 0 {
            unsafe bytes[end] = UInt8(ascii: ".")
            end += 1
        }
    }
    return end
}

/// Writes at most five digits.
func writeDecimal(_ number: UInt32, to bytes: UnsafeMutableBufferPointer<UInt8>, at end: inout Int) {
    var divisor: UInt32 =
        number >= 10_000 ? 10_000 : number >= 1_000 ? 1_000 : number >= 100 ? 100 : number >= 10 ? 10 : 1
    while divisor > 0 {
        unsafe bytes[end] = UInt8(ascii: "0") + UInt8(number / divisor % 10)
        end += 1
        divisor /= 10
    }
}
