import Address
import Daemon
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
            if let listener = try listenForPages(on: address) { admin.append(listener) }
        }
        let metrics = try configuration.metricsAddress.flatMap { (address) throws(SystemCallError) in
            try listenForPages(on: address)
        }
        let readiness = try configuration.readinessAddress.flatMap { (address) throws(SystemCallError) in
            try listenForPages(on: address)
        }
        socket = try Socket.listen(onPath: configuration.adminSocket, mode: 0o600)
        self.admin = admin
        self.metrics = metrics
        self.readiness = readiness
    }
}
