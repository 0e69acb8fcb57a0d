import Address
import Glibc

/// An address that an interface of the current network namespace holds.
public struct InterfaceAddress: Hashable, Sendable {
    public let interface: String
    public let address: IPAddress
    /// Bits of the network part, 0 to 32 or 128.
    public let prefixLength: Int
    /// The interface is up.
    public let isUp: Bool
}

public enum Interfaces {
    /// Every address of every interface in the calling thread's network namespace (getifaddrs(3), over rtnetlink).
    public static func addresses() throws(SystemCallError) -> [InterfaceAddress] {
        var list: UnsafeMutablePointer<ifaddrs>?
        try systemCall("getifaddrs", on: "interfaces") { unsafe getifaddrs(&list) }
        defer { unsafe freeifaddrs(list) }
        var found: [InterfaceAddress] = []
        var next = unsafe list
        while let entry = unsafe next?.pointee {
            unsafe next = entry.ifa_next
            guard let address = unsafe ipAddress(entry.ifa_addr) else { continue }
            let mask = unsafe ipAddress(entry.ifa_netmask)
            let length = mask.map { $0.bytes.reduce(0) { $0 + $1.nonzeroBitCount } } ?? address.bitCount
            found.append(
                unsafe InterfaceAddress(
                    interface: String(cString: entry.ifa_name), address: address, prefixLength: length,
                    isUp: entry.ifa_flags & UInt32(IFF_UP) != 0))
        }
        return found
    }
}

private func ipAddress(_ form: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
    guard let form = unsafe form else { return nil }
    var storage = sockaddr_storage()
    let size: Int
    switch unsafe Int32(form.pointee.sa_family) {
    case AF_INET: size = MemoryLayout<sockaddr_in>.size
    case AF_INET6: size = MemoryLayout<sockaddr_in6>.size
    default: return nil
    }
    unsafe withUnsafeMutableBytes(of: &storage) {
        unsafe $0.copyMemory(from: UnsafeRawBufferPointer(start: form, count: size))
    }
    return SocketAddress(storage)?.address
}
