import Address
import Mesh

/// What is told about one connection when it has ended: the access log and the metrics both speak from this.
public struct ConnectionRecord: Sendable {
    /// From where it is seen: `outbound` at the workload that opened it, `inbound` at the one that was called, `waypoint`
    /// between them.
    public enum Direction: String, Sendable, CaseIterable { case inbound, outbound, waypoint }

    /// How it is carried on the mesh's side.
    public enum Path: String, Sendable, CaseIterable {
        /// As the application sent it: one end is not in the mesh, or no identity was proven.
        case plain
        /// In an HBONE tunnel; both ends were proven by mutual TLS.
        case tunnel
        /// From one workload of this daemon to another, without leaving it; both ends are known by their namespaces.
        case sameNode = "same-node"
    }

    /// One end of the connection.
    public struct End: Sendable {
        public var address: SocketAddress?
        /// Nil when the mesh knows nothing at that address.
        public var workload: WorkloadEntry?
        /// Only what a verified certificate said, or, on the same node, whose namespace it is.
        public var identity: Identity?

        public init(address: SocketAddress?, workload: WorkloadEntry? = nil, identity: Identity? = nil) {
            self.address = address
            self.workload = workload
            self.identity = identity
        }
    }

    public var direction: Direction
    public var source: End
    /// For a tunnel its address is the tunnel's other end, and `authority` what was asked for through it.
    public var destination: End
    /// The CONNECT authority; nil for plain connections.
    public var authority: String?
    public var service: ServiceEntry?
    public var path: Path
    /// The policy that let it in; nil when none had to.
    public var policy: NamespacedName?
    /// Client to server and back, whichever side reports.
    public var bytesFromClient: UInt64
    public var bytesToClient: UInt64
    public var duration: Duration
    public var reason: CloseReason

    public init(
        direction: Direction, source: End, destination: End, authority: String? = nil,
        service: ServiceEntry? = nil, path: Path = .plain, policy: NamespacedName? = nil,
        bytesFromClient: UInt64 = 0, bytesToClient: UInt64 = 0, duration: Duration = .zero,
        reason: CloseReason = .completed
    ) {
        self.direction = direction
        self.source = source
        self.destination = destination
        self.authority = authority
        self.service = service
        self.path = path
        self.policy = policy
        self.bytesFromClient = bytesFromClient
        self.bytesToClient = bytesToClient
        self.duration = duration
        self.reason = reason
    }
}
