import Address
import Glibc
import Linux

/// A machine without IPv6 serves what was meant for both on IPv4, and leaves out what was meant for IPv6 alone.
package func listenForPages(on address: SocketAddress) throws(SystemCallError) -> Parcel<Socket>? {
    do {
        return Parcel(try Socket.listen(on: address))
    } catch  where error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL {
        guard address.address == .anyIPv6 else { return nil }
        return Parcel(try Socket.listen(on: SocketAddress(.anyIPv4, address.port)))
    }
}
