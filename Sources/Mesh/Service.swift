import Address

/// A service as the node sees it (`istio.workload.Service`).
public struct Service: Hashable, Sendable {
    public enum AppProtocol: Sendable { case unknown, http11, http2, grpc, tcp, tls }
    public enum IPFamilies: Sendable { case automatic, ipv4Only, ipv6Only, dual }
    public enum Visibility: Sendable { case everywhere, namespace }

    public struct Port: Hashable, Sendable {
        public var servicePort: UInt16
        /// 0: each endpoint has a port of its own for it (named target ports).
        public var targetPort: UInt16
        public var appProtocol: AppProtocol

        public init(servicePort: UInt16, targetPort: UInt16, appProtocol: AppProtocol = .unknown) {
            self.servicePort = servicePort
            self.targetPort = targetPort
            self.appProtocol = appProtocol
        }
    }

    /// A virtual address: one, or for a ServiceEntry a range of them.
    public struct VirtualAddress: Hashable, Sendable {
        public var network: String
        public var prefix: Prefix

        public init(network: String, prefix: Prefix) {
            self.network = network
            self.prefix = prefix
        }
    }

    /// How endpoints are chosen (`istio.workload.LoadBalancing`).
    public struct LoadBalancing: Hashable, Sendable {
        public enum Scope: Sendable { case region, zone, subzone, node, cluster, network }
        public enum Mode: Sendable { case unspecified, strict, failover, passthrough }

        public var routingPreference: [Scope]
        public var mode: Mode
        /// `health_policy: ALLOW_ALL`: unhealthy endpoints count too.
        public var allowsUnhealthy: Bool

        public init(routingPreference: [Scope] = [], mode: Mode = .unspecified, allowsUnhealthy: Bool = false)
        {
            self.routingPreference = routingPreference
            self.mode = mode
            self.allowsUnhealthy = allowsUnhealthy
        }
    }

    public struct WeightedWaypoint: Hashable, Sendable {
        public var destination: GatewayAddress
        public var weight: UInt32

        public init(destination: GatewayAddress, weight: UInt32) {
            self.destination = destination
            self.weight = weight
        }
    }

    public var name: String
    public var namespace: String
    public var hostname: String
    public var addresses: [VirtualAddress]
    public var ports: [Port]
    /// Further SPIFFE URIs that its endpoints may present.
    public var subjectAltNames: [String]
    public var waypoint: GatewayAddress?
    public var weightedWaypoints: [WeightedWaypoint]
    public var loadBalancing: LoadBalancing
    public var ipFamilies: IPFamilies
    /// Breaks ties between services of the same host name.
    public var isCanonical: Bool
    public var visibility: Visibility

    public init(
        name: String, namespace: String, hostname: String, addresses: [VirtualAddress] = [],
        ports: [Port] = [], subjectAltNames: [String] = [], waypoint: GatewayAddress? = nil,
        weightedWaypoints: [WeightedWaypoint] = [], loadBalancing: LoadBalancing = LoadBalancing(),
        ipFamilies: IPFamilies = .automatic, isCanonical: Bool = false, visibility: Visibility = .everywhere
    ) {
        self.name = name
        self.namespace = namespace
        self.hostname = hostname
        self.addresses = addresses
        self.ports = ports
        self.subjectAltNames = subjectAltNames
        self.waypoint = waypoint
        self.weightedWaypoints = weightedWaypoints
        self.loadBalancing = loadBalancing
        self.ipFamilies = ipFamilies
        self.isCanonical = isCanonical
        self.visibility = visibility
    }

    /// `namespace/hostname`, its name on the wire.
    public var key: NamespacedName { NamespacedName(namespace: namespace, name: hostname) }
}
