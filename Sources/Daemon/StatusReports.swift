import Address
import Linux
import Telemetry

/// How the daemon stands with the control component, as `/status` tells it.
package struct ControlReport: Sendable {
    package var address: String
    package var isConnected: Bool
    package var since: WallClock?
    package var lastUpdate: WallClock?

    package init(address: String, isConnected: Bool, since: WallClock?, lastUpdate: WallClock?) {
        self.address = address
        self.isConnected = isConnected
        self.since = since
        self.lastUpdate = lastUpdate
    }
}

/// A tunnel, as `/status` tells it.
package struct TunnelReport: Sendable {
    package var direction: ConnectionRecord.Direction
    /// A SPIFFE id where one was proven, else an address.
    package var source: String
    package var destination: String
    /// The port where the tunnel was accepted.
    package var address: SocketAddress
    package var streamCount: Int
    /// By which our end sends.
    package var congestionControl: String
    /// Whose thread carries it.
    package var worker: Int
    package var since: WallClock

    package init(
        direction: ConnectionRecord.Direction, source: String, destination: String, address: SocketAddress,
        streamCount: Int, congestionControl: String, worker: Int, since: WallClock
    ) {
        self.direction = direction
        self.source = source
        self.destination = destination
        self.address = address
        self.streamCount = streamCount
        self.congestionControl = congestionControl
        self.worker = worker
        self.since = since
    }
}

extension JSONWriter {
    package mutating func control(_ control: ControlReport) {
        objectMember("control") { json in
            json.member("address", control.address)
            json.member("connected", control.isConnected)
            if let since = control.since { json.member("since", since.rfc3339) }
            if let update = control.lastUpdate { json.member("lastUpdateAt", update.rfc3339) }
        }
    }

    package mutating func tunnel(_ tunnel: TunnelReport) {
        object { json in
            json.member("direction", tunnel.direction.rawValue)
            json.member("source", tunnel.source)
            json.member("destination", tunnel.destination)
            json.member("address", tunnel.address.description)
            json.member("streams", tunnel.streamCount)
            json.member("congestionControl", tunnel.congestionControl)
            json.member("worker", tunnel.worker)
            json.member("since", tunnel.since.rfc3339)
        }
    }
}
