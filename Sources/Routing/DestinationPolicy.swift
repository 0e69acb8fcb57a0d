import Mesh

/// How the traffic to a service is treated, what DestinationRules say of it put together: port settings over subset settings over
/// those of the service, section by section.
public struct DestinationPolicy: Hashable, Sendable {
    public struct Subset: Hashable, Sendable {
        /// All of which its endpoints have. For people: `endpoints` is what counts.
        public var labels: [String: String]
        /// The uids of its workloads.
        public var endpoints: Set<String>
        public var traffic: TrafficPolicy
        /// For ports with settings of their own.
        public var ports: [UInt16: TrafficPolicy]

        public init(
            labels: [String: String] = [:], endpoints: Set<String> = [],
            traffic: TrafficPolicy = TrafficPolicy(), ports: [UInt16: TrafficPolicy] = [:]
        ) {
            self.labels = labels
            self.endpoints = endpoints
            self.traffic = traffic
            self.ports = ports
        }
    }

    /// Namespace and host name of the service whose endpoints are meant.
    public var service: NamespacedName
    /// `DestinationRule shop/web`, for people; the oldest first.
    public var sources: [String]
    public var traffic: TrafficPolicy
    /// For ports with settings of their own.
    public var ports: [UInt16: TrafficPolicy]
    public var subsets: [String: Subset]

    public init(
        _ service: NamespacedName, sources: [String] = [], traffic: TrafficPolicy = TrafficPolicy(),
        ports: [UInt16: TrafficPolicy] = [:], subsets: [String: Subset] = [:]
    ) {
        self.service = service
        self.sources = sources
        self.traffic = traffic
        self.ports = ports
        self.subsets = subsets
    }

    /// Nil for a subset that there is not.
    public func traffic(port: UInt16?, subset: String?) -> TrafficPolicy? {
        guard let subset else { return port.flatMap { ports[$0] } ?? traffic }
        return subsets[subset].map { found in port.flatMap { found.ports[$0] } ?? found.traffic }
    }
}

/// What holds for the connections to a service's endpoints (DestinationRule `trafficPolicy`), Istio's defaults filled in.
public struct TrafficPolicy: Hashable, Sendable {
    public var loadBalancing = LoadBalancing()
    public var connectionPool = ConnectionPool()
    /// Nil: endpoints are not put out because of their answers.
    public var outlierDetection: OutlierDetection?
    /// TLS to the endpoint, inside of whatever the mesh does; nil for none.
    public var tls: TLSOrigination?
    /// Nil: retries are limited by `connectionPool.maxRetries` only.
    public var retryBudget: RetryBudget?

    public init() {}
}

/// Which endpoint a request goes to.
public struct LoadBalancing: Hashable, Sendable {
    public enum Method: Hashable, Sendable {
        case roundRobin
        /// Of two that are drawn, the one with fewer requests under way: the default.
        case leastRequest
        case random
        /// The address that the client itself connected to.
        case passthrough
        /// Of two that are drawn, the one with the smaller product of latency (a moving average that follows peaks at once) and
        /// requests under way. Asked for by the annotation `warren.dev/load-balancer: peak-ewma`.
        case peakEWMA
        /// The same endpoint for the same key; without the key, any.
        case hash(HashKey, HashAlgorithm)
    }

    public enum HashKey: Hashable, Sendable {
        /// In lower case.
        case header(String)
        case query(String)
        case sourceIP
        /// Where the request has none and `lifetime` is there, the answer sets one: for that long, or for the session where it is 0.
        case cookie(name: String, path: String?, lifetime: Duration?)
    }

    public enum HashAlgorithm: Hashable, Sendable {
        /// At least so many points, 0 to 8,388,608.
        case ring(minimumSize: Int)
        /// 3 to 5,000,011.
        case maglev(tableSize: Int)
    }

    /// `localityLbSetting`; places are `region/zone/subzone`, shorter ones and `*` for all.
    public struct Locality: Hashable, Sendable {
        public struct Distribution: Hashable, Sendable {
            public var from: String
            /// Shares of 100.
            public var to: [String: UInt32]

            public init(from: String, to: [String: UInt32]) {
                self.from = from
                self.to = to
            }
        }

        public struct Failover: Hashable, Sendable {
            public var from: String
            public var to: String

            public init(from: String, to: String) {
                self.from = from
                self.to = to
            }
        }

        public var distribute: [Distribution]
        public var failover: [Failover]
        /// Labels that an endpoint shares with the client, the most important first.
        public var failoverPriority: [String]

        public init(
            distribute: [Distribution] = [], failover: [Failover] = [], failoverPriority: [String] = []
        ) {
            self.distribute = distribute
            self.failover = failover
            self.failoverPriority = failoverPriority
        }
    }

    /// New endpoints get their full share only after a while; with round robin and least request.
    public struct Warmup: Hashable, Sendable {
        public var duration: Duration
        /// The share to begin with, 0 to 100.
        public var minimumPercent: Double
        /// 1 grows evenly; more grows later.
        public var aggression: Double

        public init(duration: Duration, minimumPercent: Double = 10, aggression: Double = 1) {
            self.duration = duration
            self.minimumPercent = minimumPercent
            self.aggression = aggression
        }
    }

    public var method: Method
    /// Nil: locality does not count, except by what the service itself asks for.
    public var locality: Locality?
    public var warmup: Warmup?

    public init(_ method: Method = .leastRequest, locality: Locality? = nil, warmup: Warmup? = nil) {
        self.method = method
        self.locality = locality
        self.warmup = warmup
    }
}

/// Limits of the connections and requests of one waypoint to one service; nil is no limit.
public struct ConnectionPool: Hashable, Sendable {
    public enum H2Upgrade: Hashable, Sendable, CaseIterable { case byDefault, never, always }

    /// TCP connections at once.
    public var maxConnections: Int?
    public var connectTimeout: Duration = .seconds(10)
    /// Nil: however long it lives.
    public var maxConnectionDuration: Duration?
    /// Of a connection that carries bytes; zero for none.
    public var tcpIdleTimeout: Duration = .seconds(3_600)
    /// Nil: no keep-alive is asked for.
    public var keepalive: Keepalive?
    /// Requests that wait for a connection.
    public var maxPendingRequests: Int?
    /// Requests at once, HTTP/1's among them.
    public var maxRequests: Int?
    /// After so many a connection is closed.
    public var maxRequestsPerConnection: Int?
    /// Retries at once.
    public var maxRetries: Int?
    /// Of a connection without requests; zero for none.
    public var httpIdleTimeout: Duration = .seconds(3_600)
    public var h2Upgrade = H2Upgrade.byDefault
    /// A request goes on in the protocol that it came in.
    public var usesClientProtocol = false
    /// Streams at once on one connection of HTTP/2.
    public var maxConcurrentStreams: Int?

    /// Nil leaves a value to the system.
    public struct Keepalive: Hashable, Sendable {
        public var probes: Int?
        public var time: Duration?
        public var interval: Duration?

        public init(probes: Int? = nil, time: Duration? = nil, interval: Duration? = nil) {
            self.probes = probes
            self.time = time
            self.interval = interval
        }
    }

    public init() {}
}

/// When an endpoint is put out for a while (DestinationRule `outlierDetection`). A count of nil is not looked at.
public struct OutlierDetection: Hashable, Sendable {
    /// Answers of 5xx in a row; local failures are among them where they are not split off.
    public var consecutive5xxErrors: Int? = 5
    /// Of 502, 503 and 504.
    public var consecutiveGatewayErrors: Int?
    /// Of connections that failed or timed out; looked at where they are split off.
    public var consecutiveLocalOriginFailures: Int? = 5
    public var splitsLocalOriginErrors = false
    /// Between looks at those who may come back.
    public var interval: Duration = .seconds(10)
    /// Times how often the endpoint was put out without a good interval between.
    public var baseEjectionTime: Duration = .seconds(30)
    /// Of the endpoints, at once; one may always be.
    public var maxEjectionPercent = 10
    /// Where fewer of them are well, health is not looked at; 0 for always.
    public var minHealthPercent = 0

    /// The longest time out, whatever the multiplier: 300 s, or the base time where that is longer (Envoy, `max_ejection_time`).
    public var maxEjectionTime: Duration { max(.seconds(300), baseEjectionTime) }

    public init() {}
}

/// TLS that the waypoint begins with an endpoint (DestinationRule `tls`, modes SIMPLE and MUTUAL).
public struct TLSOrigination: Hashable, Sendable {
    /// MUTUAL: the waypoint shows a certificate, of `credentialName` or of the two files.
    public var isMutual: Bool
    public var clientCertificate: String?
    public var privateKey: String?
    /// A file of roots; nil for those of the operating system.
    public var caCertificates: String?
    public var caCRL: String?
    /// A Secret, which stands for all of these files.
    public var credentialName: String?
    /// Of which the endpoint's certificate has one; empty for the server name.
    public var subjectAltNames: [String]
    /// Nil: the host of the destination.
    public var serverName: String?
    public var skipsVerification: Bool

    public init(
        isMutual: Bool = false, clientCertificate: String? = nil, privateKey: String? = nil,
        caCertificates: String? = nil, caCRL: String? = nil, credentialName: String? = nil,
        subjectAltNames: [String] = [], serverName: String? = nil, skipsVerification: Bool = false
    ) {
        self.isMutual = isMutual
        self.clientCertificate = clientCertificate
        self.privateKey = privateKey
        self.caCertificates = caCertificates
        self.caCRL = caCRL
        self.credentialName = credentialName
        self.subjectAltNames = subjectAltNames
        self.serverName = serverName
        self.skipsVerification = skipsVerification
    }
}

/// Retries as a share of the requests under way (DestinationRule `retryBudget`).
public struct RetryBudget: Hashable, Sendable {
    /// 0 to 100.
    public var percent: Double
    /// So many retries may be under way in any case.
    public var minimumConcurrency: Int
    /// Over which requests are counted; nil counts those under way now.
    public var interval: Duration?

    public init(percent: Double = 20, minimumConcurrency: Int = 3, interval: Duration? = nil) {
        self.percent = percent
        self.minimumConcurrency = minimumConcurrency
        self.interval = interval
    }
}
