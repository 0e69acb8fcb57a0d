import Address
import Linux
import Mesh
import Telemetry

/// The answer of `/status`: what `warren status` shows of a node.
struct NodeStatus {
    struct Control {
        var address: String
        var isConnected: Bool
        var since: WallClock?
        var lastUpdate: WallClock?
    }

    struct Tunnel: Sendable {
        var direction: ConnectionRecord.Direction
        /// A SPIFFE id where one was proven, else an address.
        var source: String
        var destination: String
        /// The port where the tunnel was accepted.
        var address: SocketAddress
        var streamCount: Int
        /// By which our end sends.
        var congestionControl: String
        /// Whose thread carries it.
        var worker: Int
        var since: WallClock
    }

    var node: String
    var pending: [String]
    var startedAt: WallClock
    var control: Control
    var certificates: [ConfigDump.CertificateState]
    var pods: [ConfigDump.PodState]
    var tunnels: [Tunnel]

    var json: [UInt8] {
        var json = JSONWriter(pretty: true)
        json.object { json in
            json.member("version", BuildVersion.current.version)
            json.member("ready", pending.isEmpty)
            json.arrayMember("pending", of: pending)
            json.member("node", node)
            json.member("startedAt", startedAt.rfc3339)
            json.objectMember("control") { json in
                json.member("address", control.address)
                json.member("connected", control.isConnected)
                if let since = control.since { json.member("since", since.rfc3339) }
                if let update = control.lastUpdate { json.member("lastUpdateAt", update.rfc3339) }
            }
            json.arrayMember("certificates", of: certificates) { json, certificate in
                json.object { json in
                    json.member("identity", certificate.identity)
                    json.member("state", certificate.state)
                    if let leaf = certificate.chain.first {
                        json.member("serialNumber", leaf.serial)
                        json.member("notBefore", leaf.validFrom)
                        json.member("notAfter", leaf.expiration)
                    }
                }
            }
            json.arrayMember("workloads", of: pods) { $0.statusPod($1) }
            json.arrayMember("tunnels", of: tunnels) { json, tunnel in
                json.object { json in
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
        return json.bytes + [UInt8(ascii: "\n")]
    }
}

extension JSONWriter {
    fileprivate mutating func statusPod(_ state: ConfigDump.PodState) {
        object { json in
            json.member("uid", state.pod.uid)
            json.member("namespace", state.pod.namespace)
            json.member("name", state.pod.name)
            json.arrayMember("addresses", of: state.pod.addresses.map(\.description))
            json.member("state", state.isUp ? "captured" : state.reason.isEmpty ? "pending" : "refused")
            if !state.reason.isEmpty { json.member("reason", state.reason) }
            json.member("inbound", state.connections.count { $0.direction == .inbound })
            json.member("outbound", state.connections.count { $0.direction == .outbound })
        }
    }
}
