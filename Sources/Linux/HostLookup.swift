import Address
import Glibc

/// Why a host name gave no address.
public struct HostLookupError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
}

/// The addresses of a host by the system's resolver (getaddrinfo(3)), in its order of preference.
///
/// Blocks for as long as the resolver takes, which may be many seconds: never to be called on a loop.
///
/// - Throws: when the name does not exist, or the resolver does not answer.
public func lookUpHost(_ name: String) throws(HostLookupError) -> [IPAddress] {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_ADDRCONFIG
    var list: UnsafeMutablePointer<addrinfo>?
    let failure = unsafe getaddrinfo(name, nil, &hints, &list)
    defer { if let list = unsafe list { unsafe freeaddrinfo(list) } }
    guard failure == 0 else {
        throw HostLookupError(description: "\(name): \(unsafe String(cString: gai_strerror(failure)))")
    }
    var addresses: [IPAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        if let address = unsafe address(of: entry.pointee), !addresses.contains(address) {
            addresses.append(address)
        }
        unsafe next = entry.pointee.ai_next
    }
    return addresses
}

private func address(of entry: addrinfo) -> IPAddress? {
    guard let start = unsafe UnsafeRawPointer(entry.ai_addr) else { return nil }
    let (offset, byteCount): (Int?, Int) =
        switch unsafe entry.ai_family {
        case AF_INET: (MemoryLayout<sockaddr_in>.offset(of: \.sin_addr), 4)
        case AF_INET6: (MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr), 16)
        default: (nil, 0)
        }
    guard let offset, unsafe Int(entry.ai_addrlen) >= offset + byteCount else { return nil }
    return unsafe IPAddress(bytes: UnsafeRawBufferPointer(start: start + offset, count: byteCount))
}
