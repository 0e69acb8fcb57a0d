/// An address and a port.
public struct SocketAddress: Hashable, Sendable, Comparable {
    public var address: IPAddress
    public var port: UInt16

    public init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }

    /// See `IPAddress.canonical`.
    public var canonical: SocketAddress { SocketAddress(address.canonical, port) }

    public static func < (a: SocketAddress, b: SocketAddress) -> Bool {
        a.address != b.address ? a.address < b.address : a.port < b.port
    }
}

extension SocketAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Parses `10.0.0.1:80` and `[::1]:80`; the port is mandatory.
    public init?(_ text: String) {
        // Every connection through a tunnel has one to be parsed, mostly of IPv4: without memory of its own.
        let dotted = unsafe text.utf8.withContiguousStorageIfAvailable { unsafe parseIPv4WithPort($0) }
        if let (number, port) = dotted ?? nil {
            self.init(IPAddress(ipv4: number), port)
            return
        }
        guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")) else { return nil }
        var host = text[..<colon]
        guard let port = parsePort(text[text.utf8.index(after: colon)...]) else { return nil }
        if host.hasPrefix("[") {
            guard host.hasSuffix("]") else { return nil }
            host = host.dropFirst().dropLast()
            guard let address = IPAddress(String(host)), !address.isIPv4 else { return nil }
            self.init(address, port)
        } else {
            guard let address = IPAddress(String(host)), address.isIPv4 else { return nil }
            self.init(address, port)
        }
    }

    public var description: String {
        guard let number = address.ipv4 else { return "[\(address)]:\(port)" }
        return unsafe String(unsafeUninitializedCapacity: 21) { bytes in
            var end = unsafe writeIPv4(number, to: bytes)
            unsafe bytes[end] = UInt8(ascii: ":")
            end += 1
            unsafe writeDecimal(UInt32(port), to: bytes, at: &end)
            return end
        }
    }
}

/// A decimal TCP port, 0 to 65535, without sign, blank or leading zero.
public func parsePort(_ text: some StringProtocol) -> UInt16? {
    parseDecimal(Array(text.utf8)[...], digits: 5, limit: 65_535).map { UInt16($0) }
}
