/// A range of addresses in CIDR form (RFC 4632 §3.1, RFC 4291 §2.3).
public struct Prefix: Hashable, Sendable, Comparable {
    /// With all bits behind `length` cleared.
    public let address: IPAddress
    /// 0 to 32 or 128.
    public let length: Int

    /// Nil when `length` does not fit the family. Host bits are cleared, as Kubernetes and Istio accept them.
    public init?(_ address: IPAddress, length: Int) {
        guard (0...address.bitCount).contains(length) else { return nil }
        self.address = address.masked(to: length)
        self.length = length
    }

    /// The one address.
    public init(_ address: IPAddress) {
        self.address = address
        length = address.bitCount
    }

    /// An IPv4-mapped address is looked for as the IPv4 address it stands for.
    public func contains(_ other: IPAddress) -> Bool {
        address.shares(prefix: length, with: address.isIPv4 ? other.canonical : other)
    }

    public static func < (a: Prefix, b: Prefix) -> Bool {
        a.address != b.address ? a.address < b.address : a.length < b.length
    }
}

extension Prefix: CustomStringConvertible, LosslessStringConvertible {
    /// Parses `10.0.0.0/8`, `fd00::/8`, and a bare address as the range of that one.
    public init?(_ text: String) {
        guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")) else {
            guard let address = IPAddress(text) else { return nil }
            self.init(address)
            return
        }
        guard let address = IPAddress(String(text[..<slash])),
            let length = parseDecimal(
                Array(text[text.utf8.index(after: slash)...].utf8)[...], digits: 3, limit: 128)
        else { return nil }
        self.init(address, length: Int(length))
    }

    public var description: String { "\(address)/\(length)" }
}
