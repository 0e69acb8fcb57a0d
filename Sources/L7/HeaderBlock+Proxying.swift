import HTTP2
import Routing

extension HeaderBlock {
    /// `application/grpc`, alone or with a message format.
    public var isGRPC: Bool {
        guard let type = bytes(of: "content-type"), type.starts(with: "application/grpc".utf8) else {
            return false
        }
        let rest = type.dropFirst(16).first
        return rest == nil || rest == UInt8(ascii: "+") || rest == UInt8(ascii: ";")
    }

    /// Whether it can be written as HTTP/1 too: somebody to ask, and a path of visible ASCII (RFC 3986 §3.3).
    var isSendable: Bool {
        guard let authority = bytes(of: ":authority") ?? bytes(of: "host"), !authority.isEmpty else {
            return false
        }
        guard let path = bytes(of: ":path"), !path.isEmpty else { return false }
        return (Array(authority) + Array(path)).allSatisfy { (0x21...0x7e).contains($0) }
    }

    /// A method that changes nothing (RFC 9110 §9.2.1).
    var isSafe: Bool { ["GET", "HEAD", "OPTIONS", "TRACE"].contains(method) }

    /// `remove`, then `set`, then `add`.
    mutating func apply(_ operations: HeaderOperations) {
        if operations.isEmpty { return }
        for name in operations.remove where !name.hasPrefix(":") { remove(name.lowercased()) }
        for value in operations.set {
            let name = value.name.lowercased()
            set(name == "host" ? ":authority" : name, value.value)
        }
        for value in operations.add { append(value.name, value.value) }
    }
}

extension RequestHead {
    /// Takes a request's head in place of what it has.
    mutating func take(_ block: HeaderBlock) {
        removeAll()
        for index in block.indices {
            append(name: block.nameBytes(at: index), value: block.valueBytes(at: index))
        }
    }
}

enum RequestID {
    /// A random UUID (RFC 9562 §5.4).
    static func make(_ random: () -> UInt64) -> String {
        let high = random() & ~0xf000 | 0x4000
        let low = random() & ~(UInt64(3) << 62) | UInt64(1) << 63
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        return [
            hex(high >> 32, 8), hex(high >> 16 & 0xffff, 4), hex(high & 0xffff, 4), hex(low >> 48, 4),
            hex(low & 0xffff_ffff_ffff, 12),
        ]
        .joined(separator: "-")
    }
}
