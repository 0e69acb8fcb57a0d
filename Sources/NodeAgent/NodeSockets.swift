import Address
import Glibc
import Linux
import Log

/// The sockets that the node itself serves, opened while it is root.
struct NodeSockets: ~Copyable {
    /// The admin pages with everything that changes something.
    let socket: Socket
    /// The admin pages, to look at.
    var admin: [Parcel<Socket>]
    let metrics: Parcel<Socket>?
    let readiness: Parcel<Socket>?

    init(_ configuration: NodeConfiguration) throws(SystemCallError) {
        var admin: [Parcel<Socket>] = []
        for address in configuration.adminAddresses {
            if let listener = try Self.listen(on: address) { admin.append(listener) }
        }
        let metrics = try configuration.metricsAddress.flatMap(Self.listen)
        let readiness = try configuration.readinessAddress.flatMap(Self.listen)
        socket = try Socket.listen(onPath: configuration.adminSocket, mode: 0o600)
        self.admin = admin
        self.metrics = metrics
        self.readiness = readiness
    }

    /// A machine without IPv6 serves what was meant for both on IPv4, and leaves out what was meant for IPv6 alone.
    private static func listen(on address: SocketAddress) throws(SystemCallError) -> Parcel<Socket>? {
        do {
            return Parcel(try Socket.listen(on: address))
        } catch  where error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL {
            guard address.address == .anyIPv6 else { return nil }
            return Parcel(try Socket.listen(on: SocketAddress(.anyIPv4, address.port)))
        }
    }
}
