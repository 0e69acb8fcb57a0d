import Manifests
import Routing

/// A DestinationRule's traffic policy on its way to what holds: sections that are not set are still open.
struct PolicySections {
    var connectionPool: DestinationRule.ConnectionPool?
    var loadBalancer: DestinationRule.LoadBalancer?
    var outlierDetection: DestinationRule.OutlierDetection?
    var tls: DestinationRule.ClientTLS?
    var retryBudget: DestinationRule.RetryBudget?

    /// These sections with those of `policy` in front, and what it says of `port` in front of that. A port's settings inherit
    /// nothing: a section that they leave out is the default's (Istio, `portLevelSettings`).
    func merging(_ policy: DestinationRule.TrafficPolicy?, port: UInt16?) -> PolicySections {
        guard let policy else { return self }
        var result = self
        result.connectionPool = policy.connectionPool ?? connectionPool
        result.loadBalancer = policy.loadBalancer ?? loadBalancer
        result.outlierDetection = policy.outlierDetection ?? outlierDetection
        result.tls = policy.tls ?? tls
        result.retryBudget = policy.retryBudget ?? retryBudget
        if let own = port.flatMap({ policy.ports[$0] }) {
            result.connectionPool = own.connectionPool
            result.loadBalancer = own.loadBalancer
            result.outlierDetection = own.outlierDetection
            result.tls = own.tls
        }
        return result
    }

    /// - Parameter method: how endpoints are chosen where no rule says it.
    func compiled(default method: LoadBalancing.Method) -> TrafficPolicy {
        var result = TrafficPolicy()
        result.loadBalancing = loadBalancing(default: method)
        result.connectionPool = connectionPool.map(ConnectionPool.init) ?? ConnectionPool()
        result.outlierDetection = outlierDetection.map(OutlierDetection.init)
        result.tls = tls.flatMap(TLSOrigination.init)
        result.retryBudget = retryBudget.map {
            RetryBudget(
                percent: $0.percent, minimumConcurrency: $0.minimumConcurrency,
                interval: positive($0.interval))
        }
        return result
    }

    private func loadBalancing(default method: LoadBalancing.Method) -> LoadBalancing {
        var result = LoadBalancing(method)
        guard let loadBalancer else { return result }
        switch loadBalancer.method {
        case .simple(.roundRobin): result.method = .roundRobin
        case .simple(.random): result.method = .random
        case .simple(.passthrough): result.method = .passthrough
        // LEAST_CONN is the old name of LEAST_REQUEST.
        case .simple(.leastRequest), .simple(.leastConnections): result.method = .leastRequest
        case .simple(.unspecified), nil: break
        case .hash(let key, let algorithm):
            result.method = .hash(LoadBalancing.HashKey(key), LoadBalancing.HashAlgorithm(algorithm))
        }
        if let locality = loadBalancer.locality, locality.isEnabled != false {
            result.locality = LoadBalancing.Locality(
                distribute: locality.distribute.map { .init(from: $0.from, to: $0.to) },
                failover: locality.failover.map { .init(from: $0.from, to: $0.to) },
                failoverPriority: locality.failoverPriority)
        }
        if let warmup = loadBalancer.warmup, warmup.duration > .zero {
            result.warmup = .init(
                duration: warmup.duration, minimumPercent: warmup.minimumPercent,
                aggression: warmup.aggression)
        }
        return result
    }
}

/// Zero stands for the default, as does nothing.
private func positive(_ value: Int?) -> Int? { value == 0 ? nil : value }
private func positive(_ value: Duration?) -> Duration? { value == .zero ? nil : value }

extension LoadBalancing.HashKey {
    fileprivate init(_ key: DestinationRule.HashKey) {
        switch key {
        case .header(let name): self = .header(name)
        case .query(let name): self = .query(name)
        case .sourceIP: self = .sourceIP
        case .cookie(let name, let path, let lifetime):
            self = .cookie(name: name, path: path, lifetime: lifetime)
        }
    }
}

extension LoadBalancing.HashAlgorithm {
    fileprivate init(_ algorithm: DestinationRule.HashAlgorithm) {
        switch algorithm {
        case .ring(let size): self = .ring(minimumSize: size)
        case .maglev(let size): self = .maglev(tableSize: size)
        }
    }
}

extension ConnectionPool {
    fileprivate init(_ pool: DestinationRule.ConnectionPool) {
        self.init()
        maxConnections = positive(pool.maxConnections)
        connectTimeout = positive(pool.connectTimeout) ?? connectTimeout
        maxConnectionDuration = positive(pool.maxConnectionDuration)
        // Here 0 is a value: no timeout.
        tcpIdleTimeout = pool.tcpIdleTimeout ?? tcpIdleTimeout
        httpIdleTimeout = pool.httpIdleTimeout ?? httpIdleTimeout
        if pool.keepaliveProbes != nil || pool.keepaliveTime != nil || pool.keepaliveInterval != nil {
            keepalive = Keepalive(
                probes: positive(pool.keepaliveProbes), time: positive(pool.keepaliveTime),
                interval: positive(pool.keepaliveInterval))
        }
        maxPendingRequests = positive(pool.http1MaxPendingRequests)
        maxRequests = positive(pool.http2MaxRequests)
        maxRequestsPerConnection = positive(pool.maxRequestsPerConnection)
        maxRetries = positive(pool.maxRetries)
        maxConcurrentStreams = positive(pool.maxConcurrentStreams)
        usesClientProtocol = pool.usesClientProtocol
        h2Upgrade =
            switch pool.h2UpgradePolicy {
            case .yes: .always
            case .no: .never
            case .byDefault, nil: .byDefault
            }
    }
}

extension OutlierDetection {
    fileprivate init(_ detection: DestinationRule.OutlierDetection) {
        self.init()
        // 0 turns a count off; only that of 5xx and that of local failures are on where nobody says anything.
        if let count = detection.consecutive5xxErrors { consecutive5xxErrors = positive(count) }
        consecutiveGatewayErrors = positive(detection.consecutiveGatewayErrors)
        if let count = detection.consecutiveLocalOriginFailures {
            consecutiveLocalOriginFailures = positive(count)
        }
        splitsLocalOriginErrors = detection.splitsLocalOriginErrors
        interval = positive(detection.interval) ?? interval
        baseEjectionTime = positive(detection.baseEjectionTime) ?? baseEjectionTime
        maxEjectionPercent = positive(detection.maxEjectionPercent) ?? maxEjectionPercent
        minHealthPercent = detection.minHealthPercent ?? minHealthPercent
    }
}

extension TLSOrigination {
    /// Nil where no TLS of the endpoint's own is begun: ISTIO_MUTUAL is what the mesh does anyway.
    fileprivate init?(_ tls: DestinationRule.ClientTLS) {
        guard tls.mode == .simple || tls.mode == .mutual else { return nil }
        self.init(
            isMutual: tls.mode == .mutual, clientCertificate: tls.clientCertificate,
            privateKey: tls.privateKey,
            caCertificates: tls.caCertificates, caCRL: tls.caCRL, credentialName: tls.credentialName,
            subjectAltNames: tls.subjectAltNames, serverName: tls.sni,
            skipsVerification: tls.skipsVerification ?? false)
    }
}
