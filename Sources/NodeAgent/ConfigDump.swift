import Address
import Capture
import Daemon
import Mesh
import Telemetry

/// Everything that `/config_dump` shows, gathered from the loops; `json` gives it ztunnel's shape.
struct ConfigDump {
    typealias CertificateState = CertificateReport

    /// A captured pod, or one that waits to be.
    struct PodState {
        var pod: LocalPod
        var isUp: Bool
        /// Nil while it is not captured.
        var capture: CaptureMethod?
        /// Why it is not; empty when it is, or when it has only just come.
        var reason: String
        var connections: [LiveConnection] = []
    }

    var snapshot: Snapshot
    var certificates: [CertificateState]
    var pods: [PodState]
    /// Settings by name, in the order of the documentation.
    var configuration: [(name: String, value: String)]
    var version: BuildVersion

    var json: [UInt8] {
        var json = JSONWriter(pretty: true)
        json.object { json in
            json.arrayMember("workloads", of: snapshot.allWorkloads) { $0.workload($1) }
            json.arrayMember("services", of: snapshot.allServices) { $0.service($1) }
            json.arrayMember("policies", of: snapshot.allPolicies) { $0.policy($1) }
            json.objectMember("stagedServices") { _ in }
            json.objectMember("staticConfig") { json in
                for name in ["workloads", "policies", "services"] { json.arrayMember(name, of: []) }
            }
            json.objectMember("version") { json in
                for (name, value) in version.members { json.member(name, value) }
            }
            json.objectMember("config") { json in
                for (name, value) in configuration { json.member(name, value) }
            }
            json.arrayMember("certificates", of: certificates) { $0.certificate($1) }
            json.objectMember("workloadState") { json in
                for pod in pods { json.objectMember(pod.pod.uid) { $0.podState(pod) } }
            }
        }
        return json.bytes + [UInt8(ascii: "\n")]
    }
}

extension JSONWriter {
    /// The members of one pod's object.
    fileprivate mutating func podState(_ state: ConfigDump.PodState) {
        member("state", state.isUp ? "Up" : "Pending")
        if !state.reason.isEmpty { member("reason", state.reason) }
        objectMember("info") { json in
            json.member("name", state.pod.name)
            json.member("namespace", state.pod.namespace)
            json.member("serviceAccount", state.pod.serviceAccount)
        }
        objectMember("connections") { json in
            for direction in [ConnectionRecord.Direction.inbound, .outbound] {
                let connections = state.connections.filter { $0.direction == direction }
                json.arrayMember(direction.rawValue, of: connections) { $0.connection($1) }
            }
        }
    }

    private mutating func connection(_ connection: LiveConnection) {
        object { json in
            json.member("src", connection.source.description)
            if let original = connection.originalDestination {
                json.member("originalDst", original)
            } else {
                json.nullMember("originalDst")
            }
            json.member("actualDst", connection.actualDestination.description)
            json.member("protocol", connection.path.dumpName)
            // Beyond ztunnel's members: what it has moved.
            json.member("bytesFromClient", connection.bytesFromClient)
            json.member("bytesToClient", connection.bytesToClient)
        }
    }
}

/// A connection as a dump tells it.
struct LiveConnection: Sendable {
    var direction: ConnectionRecord.Direction
    var source: SocketAddress
    /// Outbound: where the application was going. Inbound: the service that the client named, if it named one.
    var originalDestination: String?
    var actualDestination: SocketAddress
    var path: ConnectionRecord.Path
    var bytesFromClient: UInt64
    var bytesToClient: UInt64
}

extension ConnectionRecord.Path {
    /// ztunnel's names where it has one.
    fileprivate var dumpName: String {
        switch self {
        case .plain: "TCP"
        case .tunnel: "HBONE"
        case .sameNode: "SAME_NODE"
        }
    }
}
