import Address
import CLinux
import Glibc

// The kernel's form of an address: sockaddr_in and sockaddr_in6 inside the room of a sockaddr_storage.
extension SocketAddress {
    /// Calls `body` with the kernel's form of this address and its length.
    ///
    /// - Parameter asIPv6: writes an IPv4 address in its mapped form, as a socket of family AF_INET6 wants it.
    func withSystemForm<T, Failure: Error>(
        asIPv6: Bool = false, _ body: (UnsafeRawPointer, UInt32) throws(Failure) -> T
    ) throws(Failure) -> T {
        if let number = address.ipv4, !asIPv6 {
            var form = sockaddr_in()
            form.sin_family = sa_family_t(AF_INET)
            form.sin_port = port.bigEndian
            form.sin_addr.s_addr = number.bigEndian
            return try unsafe body(&form, UInt32(MemoryLayout<sockaddr_in>.size))
        }
        var form = sockaddr_in6()
        form.sin6_family = sa_family_t(AF_INET6)
        form.sin6_port = port.bigEndian
        let halves = address.ipv6
        unsafe withUnsafeMutableBytes(of: &form.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: halves.high.bigEndian, as: UInt64.self)
            unsafe bytes.storeBytes(of: halves.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return try unsafe body(&form, UInt32(MemoryLayout<sockaddr_in6>.size))
    }

    /// Reads what the kernel wrote; nil for other families. IPv4-mapped addresses come out as IPv4.
    init?(_ storage: sockaddr_storage) {
        let form = unsafe withUnsafeBytes(of: storage) { bytes -> SocketAddress? in
            let port = unsafe UInt16(bigEndian: bytes.load(fromByteOffset: 2, as: UInt16.self))
            switch Int32(storage.ss_family) {
            case AF_INET:
                let number = unsafe UInt32(bigEndian: bytes.load(fromByteOffset: 4, as: UInt32.self))
                return SocketAddress(IPAddress(ipv4: number), port)
            case AF_INET6:
                let high = unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                let low = unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
                return SocketAddress(IPAddress(ipv6High: high, low: low), port).canonical
            default:
                return nil
            }
        }
        guard let form else { return nil }
        self = form
    }

    /// Asks the kernel for an address through a call in the manner of getsockname(2).
    static func asking(_ call: (UnsafeMutableRawPointer, UnsafeMutablePointer<UInt32>) -> Int32)
        -> SocketAddress?
    {
        var storage = sockaddr_storage()
        var length = UInt32(MemoryLayout<sockaddr_storage>.size)
        guard unsafe call(&storage, &length) == 0 else { return nil }
        return SocketAddress(storage)
    }
}
