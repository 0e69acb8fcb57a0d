import Documents
import Mesh
import Routing

/// What the objects of a configuration amount to: all that proxies are sent and the CA decides by.
public struct MeshResources: Hashable, Sendable {
    /// By uid.
    public var workloads: [String: Workload] = [:]
    public var services: [NamespacedName: Service] = [:]
    public var policies: [NamespacedName: Policy] = [:]
    /// By node: the enrolled pods that it has to capture.
    public var localPods: [String: [LocalPod]] = [:]
    /// By node: whose certificates it may ask for, being the identities of the live, enrolled pods bound to it.
    public var identities: [String: Set<Identity>] = [:]
    /// The nodes that the configuration declares.
    public var nodes: Set<String> = []
    /// By node: its own network namespace, where the configuration says so (annotation `warren.dev/netns`).
    public var nodeNamespaces: [String: String] = [:]
    /// The waypoints that the configuration declares: Gateways of class `istio-waypoint` or `warren-waypoint`.
    public var waypoints: [NamespacedName: WaypointDeclaration] = [:]
    /// By waypoint: what it runs on, of each service that it serves.
    public var waypointServices: [NamespacedName: [NamespacedName: WaypointService]] = [:]
    /// What is accepted but does not do what its author may think, by position.
    public var warnings: [Problem] = []

    public init() {}
}

/// A waypoint as the configuration has it: where it runs, and as whom.
public struct WaypointDeclaration: Hashable, Sendable {
    /// A pod that runs it (label `gateway.networking.k8s.io/gateway-name`).
    public struct Replica: Hashable, Sendable {
        public var name: String
        /// Empty when the pod is bound to no node.
        public var node: String
        /// By annotation `warren.dev/netns`; nil where nobody but its operator knows.
        public var networkNamespace: String?

        public init(name: String, node: String, networkNamespace: String?) {
            self.name = name
            self.node = node
            self.networkNamespace = networkNamespace
        }
    }

    /// By name.
    public var replicas: [Replica] = []
    /// What it may be certified as: the service accounts of its pods, but for those that a captured pod has too. Whoever
    /// holds a node could have such a one, and be taken for the waypoint.
    public var identities: Set<Identity> = []

    public init() {}
}
