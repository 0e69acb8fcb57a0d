import Documents
import Routing

/// `networking.istio.io` DestinationRule: the subsets of a service, and what holds for the traffic to it.
public struct DestinationRule: Hashable, Sendable {
    public struct Subset: Hashable, Sendable {
        public var name: String
        /// Of its endpoints; all of them.
        public var labels: [String: String]
        public var trafficPolicy: TrafficPolicy?
    }

    public struct ConnectionPool: Hashable, Sendable {
        public var maxConnections: Int?
        public var connectTimeout: Duration?
        public var maxConnectionDuration: Duration?
        public var tcpIdleTimeout: Duration?
        public var keepaliveProbes: Int?
        public var keepaliveTime: Duration?
        public var keepaliveInterval: Duration?
        public var http1MaxPendingRequests: Int?
        public var http2MaxRequests: Int?
        public var maxRequestsPerConnection: Int?
        public var maxRetries: Int?
        public var httpIdleTimeout: Duration?
        public var h2UpgradePolicy: H2UpgradePolicy?
        public var usesClientProtocol = false
        public var maxConcurrentStreams: Int?
    }

    public enum H2UpgradePolicy: String, CaseIterable, Sendable {
        case byDefault = "DEFAULT"
        case no = "DO_NOT_UPGRADE"
        case yes = "UPGRADE"
    }

    public enum HashKey: Hashable, Sendable {
        case header(String)
        case query(String)
        case sourceIP
        case cookie(name: String, path: String?, lifetime: Duration?)
    }

    public enum HashAlgorithm: Hashable, Sendable {
        case ring(minimumSize: Int)
        case maglev(tableSize: Int)
    }

    public enum Simple: String, CaseIterable, Sendable {
        case unspecified = "UNSPECIFIED"
        case leastConnections = "LEAST_CONN"
        case random = "RANDOM"
        case passthrough = "PASSTHROUGH"
        case roundRobin = "ROUND_ROBIN"
        case leastRequest = "LEAST_REQUEST"
    }

    public struct LoadBalancer: Hashable, Sendable {
        public enum Method: Hashable, Sendable {
            case simple(Simple)
            case hash(HashKey, HashAlgorithm)
        }

        public var method: Method?
        public var locality: Locality?
        public var warmup: Warmup?
    }

    public struct Locality: Hashable, Sendable {
        public struct Distribution: Hashable, Sendable {
            public var from: String
            public var to: [String: UInt32]
        }

        public struct Failover: Hashable, Sendable {
            public var from: String
            public var to: String
        }

        public var isEnabled: Bool?
        public var distribute: [Distribution] = []
        public var failover: [Failover] = []
        public var failoverPriority: [String] = []
    }

    public struct Warmup: Hashable, Sendable {
        public var duration: Duration
        public var minimumPercent: Double
        public var aggression: Double
    }

    public struct OutlierDetection: Hashable, Sendable {
        public var consecutive5xxErrors: Int?
        public var consecutiveGatewayErrors: Int?
        public var consecutiveLocalOriginFailures: Int?
        public var splitsLocalOriginErrors = false
        public var interval: Duration?
        public var baseEjectionTime: Duration?
        public var maxEjectionPercent: Int?
        public var minHealthPercent: Int?
    }

    public enum TLSMode: String, CaseIterable, Sendable {
        case disable = "DISABLE"
        case simple = "SIMPLE"
        case mutual = "MUTUAL"
        case istioMutual = "ISTIO_MUTUAL"
    }

    public struct ClientTLS: Hashable, Sendable {
        public var mode: TLSMode
        public var clientCertificate: String?
        public var privateKey: String?
        public var caCertificates: String?
        public var caCRL: String?
        public var credentialName: String?
        public var subjectAltNames: [String]
        public var sni: String?
        public var skipsVerification: Bool?
    }

    public struct TrafficPolicy: Hashable, Sendable {
        public var connectionPool: ConnectionPool?
        public var loadBalancer: LoadBalancer?
        public var outlierDetection: OutlierDetection?
        public var tls: ClientTLS?
        public var retryBudget: RetryBudget?
        /// By port: what is set there replaces everything of above.
        public var ports: [UInt16: TrafficPolicy] = [:]
    }

    public struct RetryBudget: Hashable, Sendable {
        public var percent: Double
        public var minimumConcurrency: Int
        public var interval: Duration?
    }

    public var meta: ObjectMeta
    public var host: String
    public var subsets: [Subset]
    public var trafficPolicy: TrafficPolicy?
    /// The workloads whose traffic it is for, in its namespace; nil for all.
    public var selector: WorkloadSelector?
    public var exportTo: [String]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields() else { return nil }
        defer { spec.close() }
        self.meta = meta
        trafficPolicy = spec["trafficPolicy"].flatMap { TrafficPolicy($0, isForPort: false) }
        subsets =
            spec["subsets"]?.list { cursor in
                guard let fields = cursor.fields() else { return nil }
                defer { fields.close() }
                let labels = fields["labels"].map(Labels.decode) ?? [:]
                let policy = fields["trafficPolicy"].flatMap { TrafficPolicy($0, isForPort: false) }
                guard let name = fields.required("name")?.nonEmptyString() else { return nil }
                return Subset(name: name, labels: labels, trafficPolicy: policy)
            } ?? []
        if Set(subsets.map(\.name)).count < subsets.count {
            spec["subsets"]?.error("every subset's name may be there once")
        }
        selector = spec["workloadSelector"].flatMap(WorkloadSelector.init)
        exportTo = spec["exportTo"]?.strings() ?? []
        guard let host = spec.required("host")?.routeHost(allowsWildcard: true) else { return nil }
        self.host = host
    }
}

extension DestinationRule.TrafficPolicy {
    fileprivate init?(_ cursor: Cursor, isForPort: Bool) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        connectionPool = fields["connectionPool"].flatMap { DestinationRule.ConnectionPool($0) }
        loadBalancer = fields["loadBalancer"].flatMap { DestinationRule.LoadBalancer($0) }
        outlierDetection = fields["outlierDetection"].flatMap { DestinationRule.OutlierDetection($0) }
        tls = fields["tls"].flatMap { DestinationRule.ClientTLS($0) }
        guard !isForPort else { return }
        for name in ["tunnel", "proxyProtocol"] {
            fields[name]?.warn("\(name) is not supported: connections are made without it")
        }
        fields["retryBudget"]?.warn("not enforced yet: connectionPool.http.maxRetries bounds retries")
        if let budget = fields["retryBudget"]?.fields() {
            retryBudget = .init(
                percent: budget["percent"]?.number(in: 0...100) ?? 20,
                minimumConcurrency: Int(
                    budget["minRetryConcurrency"]?.integer(in: 0...Int64(Int32.max)) ?? 3),
                interval: budget["budgetInterval"]?.duration())
            budget.close()
        }
        for entry in fields["portLevelSettings"]?.elements() ?? [] {
            guard case .mapping(let members) = entry.node.content else {
                entry.error("expected a mapping, got \(entry.node.kindDescription)")
                continue
            }
            // The port stands beside the settings.
            let port = Cursor(
                entry.node["port"] ?? Node(.null, at: entry.node.position), path: "\(entry.path).port",
                problems: entry.problems)
            let rest = Node(.mapping(members.filter { $0.key != "port" }), at: entry.node.position)
            let policy = Self(Cursor(rest, path: entry.path, problems: entry.problems), isForPort: true)
            guard let portFields = port.fields() else { continue }
            if let number = portFields.required("number")?.port(), let policy {
                if ports.updateValue(policy, forKey: number) != nil {
                    port.error("the port \(number) is there twice")
                }
            }
            portFields.close()
        }
    }
}

extension DestinationRule.ConnectionPool {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        func count(_ cursor: Cursor?) -> Int? { cursor?.integer(in: 0...Int64(Int32.max)).map { Int($0) } }
        if let tcp = fields["tcp"]?.fields() {
            maxConnections = count(tcp["maxConnections"])
            connectTimeout = tcp["connectTimeout"]?.duration(atLeast: .milliseconds(1))
            tcp["maxConnectionDuration"]?.warn("not enforced yet: a connection may last as long as it likes")
            tcp["idleTimeout"]?.warn(
                "not enforced yet: a connection without requests may be idle for an hour")
            tcp["tcpKeepalive"]?.warn(
                "has no effect: connections through the mesh have the mesh's own keepalive")
            maxConnectionDuration = tcp["maxConnectionDuration"]?.duration(atLeast: .milliseconds(1))
            tcpIdleTimeout = tcp["idleTimeout"]?.duration()
            if let keepalive = tcp["tcpKeepalive"]?.fields() {
                keepaliveProbes = count(keepalive["probes"])
                keepaliveTime = keepalive["time"]?.duration()
                keepaliveInterval = keepalive["interval"]?.duration()
                keepalive.close()
            }
            tcp.close()
        }
        if let http = fields["http"]?.fields() {
            http1MaxPendingRequests = count(http["http1MaxPendingRequests"])
            http2MaxRequests = count(http["http2MaxRequests"])
            maxRequestsPerConnection = count(http["maxRequestsPerConnection"])
            maxRetries = count(http["maxRetries"])
            httpIdleTimeout = http["idleTimeout"]?.duration()
            h2UpgradePolicy = http["h2UpgradePolicy"]?.choice()
            usesClientProtocol = http["useClientProtocol"]?.boolean() ?? false
            maxConcurrentStreams = count(http["maxConcurrentStreams"])
            let misplaced = [
                "consecutiveGatewayErrors", "interval", "baseEjectionTime", "maxEjectionPercent",
                "minHealthPercent",
            ]
            for name in misplaced where http[name] != nil {
                http[name]?.warn("\(name) belongs into outlierDetection; here it has no effect")
            }
            http.close()
        }
    }
}

extension DestinationRule.LoadBalancer {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        let simple = fields["simple"]
        let hash = fields["consistentHash"]
        if simple != nil, hash != nil { cursor.error("simple and consistentHash cannot be combined") }
        if let value = simple?.choice(of: DestinationRule.Simple.self) {
            method = .simple(value)
            if value == .passthrough {
                simple?.warn("taken for LEAST_REQUEST: a waypoint chooses the endpoint itself")
            }
        }
        if let hash { method = Self.hash(hash) }
        locality = fields["localityLbSetting"].flatMap { DestinationRule.Locality($0) }
        if locality?.isEnabled != false {
            fields["localityLbSetting"]?.warn(
                "not enforced yet: endpoints are chosen by the Service's trafficDistribution, and else wherever they are"
            )
        }
        for name in ["warmup", "warmupDurationSecs"] {
            fields[name]?.warn("not enforced yet: a new endpoint has its whole share at once")
        }
        if let cursor = fields["warmup"], let warmup = cursor.fields() {
            let minimum = warmup["minimumPercent"]?.number(in: 0...100) ?? 10
            let aggression = warmup["aggression"]?.number(in: 1...1_000) ?? 1
            if let duration = warmup.required("duration")?.duration() {
                self.warmup = .init(duration: duration, minimumPercent: minimum, aggression: aggression)
            }
            warmup.close()
        } else if let duration = fields["warmupDurationSecs"]?.duration() {
            warmup = .init(duration: duration, minimumPercent: 10, aggression: 1)
        }
    }

    private static func hash(_ cursor: Cursor) -> Method? {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        var keys: [DestinationRule.HashKey] = []
        if let name = fields["httpHeaderName"]?.nonEmptyString() { keys.append(.header(name.lowercased())) }
        if let name = fields["httpQueryParameterName"]?.nonEmptyString() { keys.append(.query(name)) }
        if fields["useSourceIp"]?.boolean() == true { keys.append(.sourceIP) }
        if let cookie = fields["httpCookie"]?.fields() {
            if let name = cookie.required("name")?.nonEmptyString() {
                keys.append(
                    .cookie(name: name, path: cookie["path"]?.string(), lifetime: cookie["ttl"]?.duration()))
            }
            cookie.close()
        }
        let old = fields["minimumRingSize"]?.integer(in: 0...8_388_608)
        var algorithm = DestinationRule.HashAlgorithm.ring(minimumSize: Int(old ?? 1_024))
        if fields["ringHash"] != nil, fields["maglev"] != nil {
            cursor.error("ringHash and maglev cannot be combined")
        }
        if let ring = fields["ringHash"]?.fields() {
            algorithm = .ring(minimumSize: Int(ring["minimumRingSize"]?.integer(in: 0...8_388_608) ?? 1_024))
            ring.close()
        }
        if let maglev = fields["maglev"]?.fields() {
            algorithm = .maglev(tableSize: Int(maglev["tableSize"]?.integer(in: 3...5_000_011) ?? 65_537))
            maglev.close()
        }
        guard keys.count == 1 else {
            cursor.error(
                "exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is needed")
            return nil
        }
        return .hash(keys[0], algorithm)
    }
}

extension DestinationRule.Locality {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        isEnabled = fields["enabled"]?.boolean()
        distribute =
            fields["distribute"]?.list { cursor in
                guard let entry = cursor.fields() else { return nil }
                defer { entry.close() }
                guard let from = entry.required("from")?.nonEmptyString(), let target = entry.required("to")
                else {
                    return nil
                }
                var to: [String: UInt32] = [:]
                for (name, _, value) in target.entries() {
                    to[name] = value.integer(in: 0...100).map { UInt32($0) }
                }
                if to.values.reduce(0, +) != 100 { target.error("the weights have to sum up to 100") }
                return Distribution(from: from, to: to)
            } ?? []
        failover =
            fields["failover"]?.list { cursor in
                guard let entry = cursor.fields() else { return nil }
                defer { entry.close() }
                guard let from = entry.required("from")?.nonEmptyString(),
                    let to = entry.required("to")?.nonEmptyString()
                else { return nil }
                return Failover(from: from, to: to)
            } ?? []
        failoverPriority = fields["failoverPriority"]?.strings() ?? []
        if [distribute.isEmpty, failover.isEmpty && failoverPriority.isEmpty].allSatisfy({ !$0 }) {
            cursor.error("distribute cannot be combined with failover or failoverPriority")
        }
    }
}

extension DestinationRule.OutlierDetection {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        func count(_ name: String, _ limit: Int64 = Int64(Int32.max)) -> Int? {
            fields[name]?.integer(in: 0...limit).map { Int($0) }
        }
        consecutive5xxErrors = count("consecutive5xxErrors")
        consecutiveGatewayErrors = count("consecutiveGatewayErrors")
        consecutiveLocalOriginFailures = count("consecutiveLocalOriginFailures")
        splitsLocalOriginErrors = fields["splitExternalLocalOriginErrors"]?.boolean() ?? false
        interval = fields["interval"]?.duration(atLeast: .milliseconds(1))
        baseEjectionTime = fields["baseEjectionTime"]?.duration(atLeast: .milliseconds(1))
        maxEjectionPercent = count("maxEjectionPercent", 100)
        minHealthPercent = count("minHealthPercent", 100)
        fields["consecutiveErrors"]?.warn("this old field has no effect; consecutive5xxErrors is meant")
    }
}

extension DestinationRule.ClientTLS {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        defer { fields.close() }
        mode = fields["mode"]?.choice(of: DestinationRule.TLSMode.self) ?? .disable
        clientCertificate = fields["clientCertificate"]?.nonEmptyString()
        privateKey = fields["privateKey"]?.nonEmptyString()
        caCertificates = fields["caCertificates"]?.nonEmptyString()
        caCRL = fields["caCrl"]?.nonEmptyString()
        credentialName = fields["credentialName"]?.nonEmptyString()
        subjectAltNames = fields["subjectAltNames"]?.strings() ?? []
        sni = fields["sni"]?.nonEmptyString()
        skipsVerification = fields["insecureSkipVerify"]?.boolean()
        if mode == .mutual, credentialName == nil, clientCertificate == nil || privateKey == nil {
            cursor.error("the mode MUTUAL needs clientCertificate and privateKey, or a credentialName")
        }
        if mode == .istioMutual, clientCertificate != nil || privateKey != nil || caCertificates != nil {
            cursor.error("the mode ISTIO_MUTUAL takes the mesh's own certificates; none can be named")
        }
    }
}
