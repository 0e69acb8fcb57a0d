import Address

/// One endpoint of the mesh or next to it (`istio.workload.Workload`). Field names and defaults are the API's.
public struct Workload: Hashable, Sendable {
    public enum TunnelProtocol: Sendable { case none, hbone }
    public enum Kind: Sendable { case deployment, cronJob, pod, job }
    public enum Status: Sendable { case healthy, unhealthy }
    public enum NetworkMode: Sendable { case standard, hostNetwork }

    /// `application_tunnel`: how the workload wants its bytes; PROXY means a PROXY protocol v2 header first.
    public struct ApplicationTunnel: Hashable, Sendable {
        public enum Kind: Sendable { case none, proxy }
        public var kind: Kind
        /// 0 keeps the port of the request.
        public var port: UInt16

        public init(kind: Kind, port: UInt16) {
            self.kind = kind
            self.port = port
        }
    }

    /// Primary key, for pods `<cluster>//Pod/<namespace>/<name>`.
    public var uid: String
    public var name: String
    public var namespace: String
    public var addresses: [IPAddress]
    /// Resolved at connect time when there is no address.
    public var hostname: String
    public var network: String
    public var tunnelProtocol: TunnelProtocol
    public var trustDomain: String
    public var serviceAccount: String
    public var waypoint: GatewayAddress?
    public var networkGateway: GatewayAddress?
    public var node: String
    public var canonicalName: String
    public var canonicalRevision: String
    public var kind: Kind
    /// The controlling object's name, e.g. the Deployment's; telemetry's name of the workload.
    public var workloadName: String
    /// The workload itself speaks HBONE (`native_tunnel`).
    public var nativeTunnel: Bool
    public var applicationTunnel: ApplicationTunnel?
    /// By service `namespace/hostname`: which ports it serves there, service port to target port.
    public var services: [NamespacedName: [UInt16: UInt16]]
    /// Policies attached by selector, sorted.
    public var authorizationPolicies: [NamespacedName]
    public var status: Status
    public var clusterID: String
    public var locality: Locality
    public var networkMode: NetworkMode
    /// Load-balancing weight.
    public var capacity: UInt32
    /// Connections to and from workloads of its own node take a tunnel all the same (`warren.dev/same-node: encrypt`).
    public var encryptsOnSameNode: Bool

    public init(
        uid: String, name: String, namespace: String, addresses: [IPAddress] = [], hostname: String = "",
        network: String = "", tunnelProtocol: TunnelProtocol = .none, trustDomain: String = "cluster.local",
        serviceAccount: String = "default", waypoint: GatewayAddress? = nil,
        networkGateway: GatewayAddress? = nil, node: String = "", canonicalName: String = "",
        canonicalRevision: String = "", kind: Kind = .pod, workloadName: String = "",
        nativeTunnel: Bool = false, applicationTunnel: ApplicationTunnel? = nil,
        services: [NamespacedName: [UInt16: UInt16]] = [:], authorizationPolicies: [NamespacedName] = [],
        status: Status = .healthy, clusterID: String = "Kubernetes", locality: Locality = Locality(),
        networkMode: NetworkMode = .standard, capacity: UInt32 = 1, encryptsOnSameNode: Bool = false
    ) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.addresses = addresses
        self.hostname = hostname
        self.network = network
        self.tunnelProtocol = tunnelProtocol
        self.trustDomain = trustDomain
        self.serviceAccount = serviceAccount
        self.waypoint = waypoint
        self.networkGateway = networkGateway
        self.node = node
        self.canonicalName = canonicalName
        self.canonicalRevision = canonicalRevision
        self.kind = kind
        self.workloadName = workloadName
        self.nativeTunnel = nativeTunnel
        self.applicationTunnel = applicationTunnel
        self.services = services
        self.authorizationPolicies = authorizationPolicies
        self.status = status
        self.clusterID = clusterID
        self.locality = locality
        self.networkMode = networkMode
        self.capacity = capacity
        self.encryptsOnSameNode = encryptsOnSameNode
    }

    public var qualifiedName: NamespacedName { NamespacedName(namespace: namespace, name: name) }

    public var identity: Identity {
        Identity(trustDomain: trustDomain, namespace: namespace, serviceAccount: serviceAccount)
    }
}
