import Address
import Daemon
import Linux
import Mesh
import Telemetry

/// The answer of `/status`: what `warren status` shows of a node.
struct NodeStatus {
    typealias Control = ControlReport
    typealias Tunnel = TunnelReport

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
            json.control(control)
            json.arrayMember("certificates", of: certificates) { $0.certificateStatus($1) }
            json.arrayMember("workloads", of: pods) { $0.statusPod($1) }
            json.arrayMember("tunnels", of: tunnels) { $0.tunnel($1) }
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
            if let capture = state.capture { json.member("capture", capture.rawValue) }
            if !state.reason.isEmpty { json.member("reason", state.reason) }
            json.member("inbound", state.connections.count { $0.direction == .inbound })
            json.member("outbound", state.connections.count { $0.direction == .outbound })
        }
    }
}
