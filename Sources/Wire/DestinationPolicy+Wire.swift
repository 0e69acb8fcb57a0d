import Mesh
import Protobuf
import Routing

private let methods = EnumTable<Warren_V1_LoadBalancing.Simple, LoadBalancing.Method>([
    .leastRequest: .leastRequest, .roundRobin: .roundRobin, .random: .random, .passthrough: .passthrough,
    .peakEwma: .peakEWMA,
])
private let upgrades = EnumTable<Warren_V1_ConnectionPool.H2Upgrade, ConnectionPool.H2Upgrade>([
    .`default`: .byDefault, .never: .never, .always: .always,
])

extension DestinationPolicy {
    init(_ wire: Warren_V1_DestinationPolicy) throws(WireError) {
        self.init(
            try namespacedName(namespace: wire.namespace, name: wire.hostname, nameField: "hostname"),
            sources: wire.sources,
            traffic: try within("traffic") { () throws(WireError) in try TrafficPolicy(wire.traffic) },
            ports: try portMap(wire.ports, "ports") { (wire) throws(WireError) in try TrafficPolicy(wire) },
            subsets: try textMap(wire.subsets, "subsets") { (wire) throws(WireError) in
                Subset(
                    labels: wire.labels, endpoints: Set(wire.endpoints),
                    traffic: try within("traffic") { () throws(WireError) in try TrafficPolicy(wire.traffic)
                    },
                    ports: try portMap(wire.ports, "ports") { (wire) throws(WireError) in
                        try TrafficPolicy(wire)
                    })
            })
    }
}

extension Warren_V1_DestinationPolicy {
    init(_ policy: DestinationPolicy) {
        self.init()
        namespace = policy.service.namespace
        hostname = policy.service.name
        sources = policy.sources
        traffic = Warren_V1_TrafficPolicy(policy.traffic)
        for (port, traffic) in policy.ports { ports[UInt32(port)] = Warren_V1_TrafficPolicy(traffic) }
        subsets = policy.subsets.mapValues { subset in
            var wire = Subset()
            wire.labels = subset.labels
            wire.endpoints = subset.endpoints.sorted()
            wire.traffic = Warren_V1_TrafficPolicy(subset.traffic)
            for (port, traffic) in subset.ports {
                wire.ports[UInt32(port)] = Warren_V1_TrafficPolicy(traffic)
            }
            return wire
        }
    }
}

extension TrafficPolicy {
    fileprivate init(_ wire: Warren_V1_TrafficPolicy) throws(WireError) {
        self.init()
        loadBalancing = try within("load_balancing") { () throws(WireError) in
            try LoadBalancing(wire.loadBalancing)
        }
        connectionPool = try within("connection_pool") { () throws(WireError) in
            try ConnectionPool(wire.connectionPool)
        }
        if wire.hasOutlierDetection {
            outlierDetection = try within("outlier_detection") { () throws(WireError) in
                try OutlierDetection(wire.outlierDetection)
            }
        }
        if wire.hasTls { tls = TLSOrigination(wire.tls) }
        if wire.hasRetryBudget {
            let budget = wire.retryBudget
            retryBudget = try within("retry_budget") { () throws(WireError) in
                RetryBudget(
                    percent: try number(budget.percent, 0...100, "percent"),
                    minimumConcurrency: Int(budget.minimumConcurrency),
                    interval: budget.hasInterval ? try Duration(budget.interval, "interval") : nil)
            }
        }
    }
}

extension Warren_V1_TrafficPolicy {
    fileprivate init(_ policy: TrafficPolicy) {
        self.init()
        loadBalancing = Warren_V1_LoadBalancing(policy.loadBalancing)
        connectionPool = Warren_V1_ConnectionPool(policy.connectionPool)
        if let detection = policy.outlierDetection {
            outlierDetection = Warren_V1_OutlierDetection(detection)
        }
        if let origination = policy.tls { tls = Warren_V1_TLSOrigination(origination) }
        if let budget = policy.retryBudget {
            retryBudget = Warren_V1_RetryBudget()
            retryBudget.percent = budget.percent
            retryBudget.minimumConcurrency = UInt32(clamping: budget.minimumConcurrency)
            if let interval = budget.interval { retryBudget.interval = Google_Protobuf_Duration(interval) }
        }
    }
}

// MARK: - Load balancing

extension LoadBalancing {
    fileprivate init(_ wire: Warren_V1_LoadBalancing) throws(WireError) {
        switch wire.method {
        case .simple(let value): self.init(try methods.model(value, "simple"))
        case .hash(let hash): self.init(try within("hash") { () throws(WireError) in try Method(hash) })
        // An oneof without a member known here is a method of a later version.
        case nil: throw WireError("method", "missing, or of a kind that is not supported")
        }
        if wire.hasLocality {
            locality = Locality(
                distribute: wire.locality.distribute.map { Locality.Distribution(from: $0.from, to: $0.to) },
                failover: wire.locality.failover.map { Locality.Failover(from: $0.from, to: $0.to) },
                failoverPriority: wire.locality.failoverPriority)
        }
        if wire.hasWarmup {
            warmup = try within("warmup") { () throws(WireError) in
                Warmup(
                    duration: try Duration(wire.warmup.duration, "duration"),
                    minimumPercent: try number(wire.warmup.minimumPercent, 0...100, "minimum_percent"),
                    aggression: try number(wire.warmup.aggression, 1...1_000, "aggression"))
            }
        }
    }
}

extension LoadBalancing.Method {
    fileprivate init(_ wire: Warren_V1_ConsistentHash) throws(WireError) {
        let key: LoadBalancing.HashKey
        switch wire.key {
        case .header(let name): key = .header(name)
        case .query(let name): key = .query(name)
        case .sourceIp(true): key = .sourceIP
        case .sourceIp(false): throw WireError("source_ip", "false is no key")
        case .cookie(let cookie):
            guard !cookie.name.isEmpty else { throw WireError("cookie.name", "missing") }
            key = .cookie(
                name: cookie.name, path: cookie.hasPath ? cookie.path : nil,
                lifetime: cookie.hasLifetime ? try Duration(cookie.lifetime, "cookie.lifetime") : nil)
        case nil: throw WireError("key", "missing, or of a kind that is not supported")
        }
        let algorithm: LoadBalancing.HashAlgorithm
        switch wire.algorithm {
        case .ringMinimumSize(let size):
            algorithm = .ring(minimumSize: try number(size, 0...8_388_608, "ring_minimum_size"))
        case .maglevTableSize(let size):
            algorithm = .maglev(tableSize: try number(size, 3...5_000_011, "maglev_table_size"))
        case nil: throw WireError("algorithm", "missing, or of a kind that is not supported")
        }
        self = .hash(key, algorithm)
    }
}

extension Warren_V1_LoadBalancing {
    fileprivate init(_ balancing: LoadBalancing) {
        self.init()
        if case .hash(let key, let algorithm) = balancing.method {
            switch key {
            case .header(let name): hash.header = name
            case .query(let name): hash.query = name
            case .sourceIP: hash.sourceIp = true
            case .cookie(let name, let path, let lifetime):
                hash.cookie.name = name
                if let path { hash.cookie.path = path }
                if let lifetime { hash.cookie.lifetime = Google_Protobuf_Duration(lifetime) }
            }
            switch algorithm {
            case .ring(let size): hash.ringMinimumSize = UInt32(clamping: size)
            case .maglev(let size): hash.maglevTableSize = UInt32(clamping: size)
            }
        } else {
            simple = methods.wire(balancing.method)
        }
        if let setting = balancing.locality {
            locality = Warren_V1_Locality()
            locality.distribute = setting.distribute.map {
                var wire = Warren_V1_Locality.Distribution()
                wire.from = $0.from
                wire.to = $0.to
                return wire
            }
            locality.failover = setting.failover.map {
                var wire = Warren_V1_Locality.Failover()
                wire.from = $0.from
                wire.to = $0.to
                return wire
            }
            locality.failoverPriority = setting.failoverPriority
        }
        if let slow = balancing.warmup {
            warmup.duration = Google_Protobuf_Duration(slow.duration)
            warmup.minimumPercent = slow.minimumPercent
            warmup.aggression = slow.aggression
        }
    }
}

// MARK: - Connections

extension ConnectionPool {
    fileprivate init(_ wire: Warren_V1_ConnectionPool) throws(WireError) {
        self.init()
        maxConnections = wire.hasMaxConnections ? Int(wire.maxConnections) : nil
        connectTimeout = try Duration(wire.connectTimeout, "connect_timeout")
        if wire.hasMaxConnectionDuration {
            maxConnectionDuration = try Duration(wire.maxConnectionDuration, "max_connection_duration")
        }
        tcpIdleTimeout = try Duration(wire.tcpIdleTimeout, "tcp_idle_timeout")
        if wire.hasKeepalive {
            let probe = wire.keepalive
            keepalive = try within("keepalive") { () throws(WireError) in
                Keepalive(
                    probes: probe.hasProbes ? Int(probe.probes) : nil,
                    time: probe.hasTime ? try Duration(probe.time, "time") : nil,
                    interval: probe.hasInterval ? try Duration(probe.interval, "interval") : nil)
            }
        }
        maxPendingRequests = wire.hasMaxPendingRequests ? Int(wire.maxPendingRequests) : nil
        maxRequests = wire.hasMaxRequests ? Int(wire.maxRequests) : nil
        maxRequestsPerConnection =
            wire.hasMaxRequestsPerConnection ? Int(wire.maxRequestsPerConnection) : nil
        maxRetries = wire.hasMaxRetries ? Int(wire.maxRetries) : nil
        httpIdleTimeout = try Duration(wire.httpIdleTimeout, "http_idle_timeout")
        h2Upgrade = try upgrades.model(wire.h2Upgrade, "h2_upgrade")
        usesClientProtocol = wire.useClientProtocol
        maxConcurrentStreams = wire.hasMaxConcurrentStreams ? Int(wire.maxConcurrentStreams) : nil
    }
}

extension Warren_V1_ConnectionPool {
    fileprivate init(_ pool: ConnectionPool) {
        self.init()
        if let count = pool.maxConnections { maxConnections = UInt32(clamping: count) }
        connectTimeout = Google_Protobuf_Duration(pool.connectTimeout)
        if let duration = pool.maxConnectionDuration {
            maxConnectionDuration = Google_Protobuf_Duration(duration)
        }
        tcpIdleTimeout = Google_Protobuf_Duration(pool.tcpIdleTimeout)
        if let probe = pool.keepalive {
            keepalive = Keepalive()
            if let count = probe.probes { keepalive.probes = UInt32(clamping: count) }
            if let time = probe.time { keepalive.time = Google_Protobuf_Duration(time) }
            if let interval = probe.interval { keepalive.interval = Google_Protobuf_Duration(interval) }
        }
        if let count = pool.maxPendingRequests { maxPendingRequests = UInt32(clamping: count) }
        if let count = pool.maxRequests { maxRequests = UInt32(clamping: count) }
        if let count = pool.maxRequestsPerConnection { maxRequestsPerConnection = UInt32(clamping: count) }
        if let count = pool.maxRetries { maxRetries = UInt32(clamping: count) }
        httpIdleTimeout = Google_Protobuf_Duration(pool.httpIdleTimeout)
        h2Upgrade = upgrades.wire(pool.h2Upgrade)
        useClientProtocol = pool.usesClientProtocol
        if let count = pool.maxConcurrentStreams { maxConcurrentStreams = UInt32(clamping: count) }
    }
}

extension OutlierDetection {
    fileprivate init(_ wire: Warren_V1_OutlierDetection) throws(WireError) {
        self.init()
        consecutive5xxErrors = wire.hasConsecutive5xxErrors ? Int(wire.consecutive5xxErrors) : nil
        consecutiveGatewayErrors =
            wire.hasConsecutiveGatewayErrors ? Int(wire.consecutiveGatewayErrors) : nil
        consecutiveLocalOriginFailures =
            wire.hasConsecutiveLocalOriginFailures ? Int(wire.consecutiveLocalOriginFailures) : nil
        splitsLocalOriginErrors = wire.splitLocalOriginErrors
        interval = try Duration(wire.interval, "interval")
        guard interval > .zero else { throw WireError("interval", "missing") }
        baseEjectionTime = try Duration(wire.baseEjectionTime, "base_ejection_time")
        maxEjectionPercent = try number(wire.maxEjectionPercent, 0...100, "max_ejection_percent")
        minHealthPercent = try number(wire.minHealthPercent, 0...100, "min_health_percent")
    }
}

extension Warren_V1_OutlierDetection {
    fileprivate init(_ detection: OutlierDetection) {
        self.init()
        if let count = detection.consecutive5xxErrors { consecutive5xxErrors = UInt32(clamping: count) }
        if let count = detection.consecutiveGatewayErrors {
            consecutiveGatewayErrors = UInt32(clamping: count)
        }
        if let count = detection.consecutiveLocalOriginFailures {
            consecutiveLocalOriginFailures = UInt32(clamping: count)
        }
        splitLocalOriginErrors = detection.splitsLocalOriginErrors
        interval = Google_Protobuf_Duration(detection.interval)
        baseEjectionTime = Google_Protobuf_Duration(detection.baseEjectionTime)
        maxEjectionPercent = UInt32(clamping: detection.maxEjectionPercent)
        minHealthPercent = UInt32(clamping: detection.minHealthPercent)
    }
}

extension TLSOrigination {
    fileprivate init(_ wire: Warren_V1_TLSOrigination) {
        self.init(
            isMutual: wire.mutual,
            clientCertificate: wire.hasClientCertificate ? wire.clientCertificate : nil,
            privateKey: wire.hasPrivateKey ? wire.privateKey : nil,
            caCertificates: wire.hasCaCertificates ? wire.caCertificates : nil,
            caCRL: wire.hasCaCrl ? wire.caCrl : nil,
            credentialName: wire.hasCredentialName ? wire.credentialName : nil,
            subjectAltNames: wire.subjectAltNames, serverName: wire.hasServerName ? wire.serverName : nil,
            skipsVerification: wire.skipVerification)
    }
}

extension Warren_V1_TLSOrigination {
    fileprivate init(_ tls: TLSOrigination) {
        self.init()
        mutual = tls.isMutual
        if let text = tls.clientCertificate { clientCertificate = text }
        if let text = tls.privateKey { privateKey = text }
        if let text = tls.caCertificates { caCertificates = text }
        if let text = tls.caCRL { caCrl = text }
        if let text = tls.credentialName { credentialName = text }
        subjectAltNames = tls.subjectAltNames
        if let text = tls.serverName { serverName = text }
        skipVerification = tls.skipsVerification
    }
}
