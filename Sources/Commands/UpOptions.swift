/// What `warren up` was asked for.
public struct UpOptions: Sendable {
    /// The directory of manifests.
    public var directory: String
    /// The nodes to run; all of the directory's when empty.
    public var nodes: [String] = []
    /// Keys, tokens and the certificates of nodes; nil for a place that is removed at the end.
    public var state: String?
    /// Where the daemons' admin sockets are.
    public var runDirectory = "/run/warren"
    /// The port at which each node reaches the control component, on its own loopback.
    public var port: UInt16 = 15012
    /// Handed on to the daemons as they are.
    public var logLevel: String?
    public var logFormat: String?

    public init(directory: String) {
        self.directory = directory
    }
}
