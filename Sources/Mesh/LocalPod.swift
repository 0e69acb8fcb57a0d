import Address

/// A pod that its node has to capture (`warren.v1.LocalPod`).
public struct LocalPod: Hashable, Sendable {
    /// The pod's own uid, which in stand-alone use defaults to `namespace/name`.
    public var uid: String
    public var namespace: String
    public var name: String
    public var serviceAccount: String
    public var labels: [String: String]
    public var addresses: [IPAddress]
    /// A name in the system's netns folder, or an absolute path.
    public var networkNamespace: String

    public init(
        uid: String, namespace: String, name: String, serviceAccount: String, labels: [String: String],
        addresses: [IPAddress], networkNamespace: String
    ) {
        self.uid = uid
        self.namespace = namespace
        self.name = name
        self.serviceAccount = serviceAccount
        self.labels = labels
        self.addresses = addresses
        self.networkNamespace = networkNamespace
    }

    public var qualifiedName: NamespacedName { NamespacedName(namespace: namespace, name: name) }
}

/// What became of a `LocalPod` on its node (`warren.v1.CaptureReport`).
public struct CaptureReport: Hashable, Sendable {
    public enum State: Sendable { case captured, refused, removed }

    public var uid: String
    public var state: State
    /// Why it is not captured; empty when it is.
    public var reason: String

    public init(uid: String, state: State, reason: String = "") {
        self.uid = uid
        self.state = state
        self.reason = reason
    }
}
