import Wire

/// How a node or a waypoint introduces itself to the control component (`ztunnel.md` §3).
public struct NodeDescription: Sendable {
    public enum Kind: String, Sendable { case node, waypoint }

    public var kind = Kind.node
    /// The node's name (`NODE_NAME`); a waypoint's namespace and name with a slash between them, which no node's has.
    public var name: String
    /// The daemon's own pod; outside of Kubernetes the node's name and any namespace.
    public var podName: String
    public var podNamespace: String
    /// Empty when it is not known.
    public var address: String
    public var clusterDomain: String
    /// Further metadata (`ISTIO_META_*`, without the prefix).
    public var metadata: [String: String]

    public init(
        name: String, podName: String = "", podNamespace: String = "warren-system", address: String = "",
        clusterDomain: String = "cluster.local", metadata: [String: String] = [:]
    ) {
        self.name = name
        self.podName = podName.isEmpty ? name : podName
        self.podNamespace = podNamespace
        self.address = address
        self.clusterDomain = clusterDomain
        self.metadata = metadata
    }

    /// A waypoint.
    ///
    /// - Parameter podName: which of its replicas it is; empty when it does not matter.
    public static func waypoint(
        _ name: String, namespace: String, podName: String = "", address: String = "",
        clusterDomain: String = "cluster.local"
    ) -> NodeDescription {
        var description = NodeDescription(
            name: "\(namespace)/\(name)", podName: podName.isEmpty ? name : podName, podNamespace: namespace,
            address: address, clusterDomain: clusterDomain, metadata: ["GATEWAY_NAME": name])
        description.kind = .waypoint
        return description
    }

    /// `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>`: istiod tells the kind of a proxy by the first part.
    public var id: String {
        let address = address.isEmpty ? "1.1.1.1" : address
        let type = kind == .node ? "ztunnel" : "waypoint"
        return "\(type)~\(address)~\(podName).\(podNamespace)~\(podNamespace).svc.\(clusterDomain)"
    }

    public var wire: Envoy_Config_Core_V3_Node {
        var texts = metadata
        texts["NAME"] = podName
        texts["NAMESPACE"] = podNamespace
        if kind == .node { texts["NODE_NAME"] = name }
        texts["INSTANCE_IPS"] = address.isEmpty ? "1.1.1.1" : address
        var node = Envoy_Config_Core_V3_Node()
        node.id = id
        node.metadata = Google_Protobuf_Struct(texts)
        return node
    }
}
