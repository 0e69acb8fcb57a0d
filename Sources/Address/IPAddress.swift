/// An IPv4 or IPv6 address. IPv4-mapped IPv6 addresses are kept apart until `canonical` is asked for.
///
/// Two words and a tag: it is hashed once per captured connection and copied freely.
public struct IPAddress: Hashable, Sendable {
    /// Network order, left-aligned; an IPv4 address occupies the low 32 bits of `low`.
    private let high: UInt64
    private let low: UInt64
    public let isIPv4: Bool

    private init(high: UInt64, low: UInt64, isIPv4: Bool) {
        self.high = high
        self.low = low
        self.isIPv4 = isIPv4
    }

    /// - Parameter ipv4: the address as a number, first octet most significant.
    public init(ipv4: UInt32) {
        self.init(high: 0, low: UInt64(ipv4), isIPv4: true)
    }

    /// - Parameters: the two halves of an IPv6 address in network order.
    public init(ipv6High high: UInt64, low: UInt64) {
        self.init(high: high, low: low, isIPv4: false)
    }

    /// From 4 or 16 bytes in network order; nil for any other number of them.
    public init?(bytes: some Collection<UInt8>) {
        var words: (UInt64, UInt64) = (0, 0)
        switch bytes.count {
        case 4:
            for byte in bytes { words.1 = words.1 << 8 | UInt64(byte) }
            self.init(high: 0, low: words.1, isIPv4: true)
        case 16:
            for byte in bytes {
                words.0 = words.0 << 8 | words.1 >> 56
                words.1 = words.1 << 8 | UInt64(byte)
            }
            self.init(high: words.0, low: words.1, isIPv4: false)
        default:
            return nil
        }
    }

    /// 4 or 16 bytes in network order, as sockets, certificates and xDS carry them.
    public var bytes: [UInt8] {
        isIPv4
            ? stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: low >> $0) }
            : [high, low].flatMap { word in
                stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: word >> $0) }
            }
    }

    /// The address as a number; nil for IPv6.
    public var ipv4: UInt32? { isIPv4 ? UInt32(truncatingIfNeeded: low) : nil }

    /// The halves of an IPv6 address; of its IPv4-mapped form for IPv4.
    public var ipv6: (high: UInt64, low: UInt64) {
        isIPv4 ? (0, 0xffff_0000_0000 | low) : (high, low)
    }

    /// 32 or 128.
    public var bitCount: Int { isIPv4 ? 32 : 128 }

    /// The IPv4 address that an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2) stands for; else itself.
    public var canonical: IPAddress {
        guard !isIPv4, high == 0, low >> 32 == 0xffff else { return self }
        return IPAddress(ipv4: UInt32(truncatingIfNeeded: low))
    }

    public var isLoopback: Bool { isIPv4 ? low >> 24 == 127 : high == 0 && low == 1 }
    public var isUnspecified: Bool { high == 0 && low == 0 }
    public var isMulticast: Bool { isIPv4 ? low >> 28 == 0xe : high >> 56 == 0xff }
    public var isLinkLocal: Bool { isIPv4 ? low >> 16 == 0xa9fe : high >> 54 == 0x3fa }

    public static let anyIPv4 = IPAddress(ipv4: 0)
    public static let anyIPv6 = IPAddress(ipv6High: 0, low: 0)
    public static let loopbackIPv4 = IPAddress(ipv4: 0x7f00_0001)
    public static let loopbackIPv6 = IPAddress(ipv6High: 0, low: 1)

    /// Whether the first `length` bits are those of `other`; false between families.
    func shares(prefix length: Int, with other: IPAddress) -> Bool {
        guard isIPv4 == other.isIPv4 else { return false }
        if isIPv4 { return length <= 0 || (low ^ other.low) >> UInt64(32 - min(length, 32)) == 0 }
        if length <= 0 { return true }
        if length <= 64 { return (high ^ other.high) >> UInt64(64 - length) == 0 }
        return high == other.high && (low ^ other.low) >> UInt64(128 - min(length, 128)) == 0
    }

    /// The address with all bits behind the first `length` cleared.
    func masked(to length: Int) -> IPAddress {
        func mask(_ kept: Int) -> UInt64 {
            kept <= 0 ? 0 : kept >= 64 ? .max : ~(UInt64.max >> UInt64(kept))
        }
        if isIPv4 { return IPAddress(high: 0, low: low & (mask(length) >> 32), isIPv4: true) }
        return IPAddress(high: high & mask(length), low: low & mask(length - 64), isIPv4: false)
    }
}

extension IPAddress: Comparable {
    /// IPv4 before IPv6, then by number: a stable order for dumps and tests.
    public static func < (a: IPAddress, b: IPAddress) -> Bool {
        if a.isIPv4 != b.isIPv4 { return a.isIPv4 }
        return a.high != b.high ? a.high < b.high : a.low < b.low
    }
}
