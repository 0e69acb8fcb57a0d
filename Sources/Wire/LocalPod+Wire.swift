import Address
import Mesh
import Protobuf

private let states = EnumTable<Warren_V1_CaptureReport.State, CaptureReport.State>([
    .captured: .captured, .refused: .refused, .removed: .removed,
])

extension LocalPod {
    public init(_ wire: Warren_V1_LocalPod) throws(WireError) {
        guard !wire.uid.isEmpty else { throw WireError("uid", "missing") }
        let name = try namespacedName(namespace: wire.namespace, name: wire.name, nameField: "name")
        var networkNamespace = ""
        if wire.hasNetworkNamespace {
            // An oneof without a member known here is a source of a later version, not no source.
            guard case .netnsNameOrPath(let text)? = wire.networkNamespace.source else {
                throw WireError("network_namespace.source", "missing, or of a kind that is not supported")
            }
            networkNamespace = text
        }
        self.init(
            uid: wire.uid, namespace: try identityPart(name.namespace, "namespace"), name: name.name,
            serviceAccount: wire.serviceAccount.isEmpty
                ? "default" : try identityPart(wire.serviceAccount, "service_account"),
            labels: wire.labels,
            addresses: try wire.addresses.converted("addresses") { (bytes) throws(WireError) in
                try IPAddress(wire: bytes)
            },
            networkNamespace: networkNamespace)
    }
}

extension Warren_V1_LocalPod {
    public init(_ pod: LocalPod) {
        self.init()
        uid = pod.uid
        namespace = pod.namespace
        name = pod.name
        serviceAccount = pod.serviceAccount
        labels = pod.labels
        addresses = pod.addresses.map(\.bytes)
        if !pod.networkNamespace.isEmpty { networkNamespace.netnsNameOrPath = pod.networkNamespace }
    }
}

extension CaptureReport {
    public init(_ wire: Warren_V1_CaptureReport) throws(WireError) {
        guard !wire.uid.isEmpty else { throw WireError("uid", "missing") }
        self.init(uid: wire.uid, state: try states.model(wire.state, "state"), reason: wire.reason)
    }
}

extension Warren_V1_CaptureReport {
    public init(_ report: CaptureReport) {
        self.init()
        uid = report.uid
        state = states.wire(report.state)
        reason = report.reason
    }
}
