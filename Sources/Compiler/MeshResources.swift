import Documents
import Mesh

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
    /// What is accepted but does not do what its author may think, by position.
    public var warnings: [Problem] = []

    public init() {}
}
