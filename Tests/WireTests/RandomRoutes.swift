import Address
import Mesh
import Routing
import TestMessages
import TestSupport

// What a waypoint runs on, with everything set that the wire can carry, from a seed.

extension SeededGenerator {
    mutating func waypointService() -> WaypointService {
        WaypointService(
            namespacedName(),
            ports: map(
                { $0.port() },
                { random in
                    .init(
                        random.pick([.unknown, .http11, .http2, .grpc, .tcp, .tls]),
                        virtualHosts: random.some { random in
                            VirtualHost(
                                random.text(), domains: random.some { $0.name() },
                                routes: random.some { $0.route() })
                        }, streams: random.some { $0.streamRoute() })
                }), destinations: map({ $0.name() }, { $0.destinationPolicy() }))
    }

    mutating func map<Key: Hashable, Value>(
        _ key: (inout SeededGenerator) -> Key, _ value: (inout SeededGenerator) -> Value
    ) -> [Key: Value] {
        Dictionary(some { (key(&$0), value(&$0)) }, uniquingKeysWith: { $1 })
    }

    mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
    mutating func bool() -> Bool { next() % 2 == 0 }
    mutating func duration() -> Duration { .nanoseconds(Int64.random(in: 0...1 << 50, using: &self)) }
    mutating func fraction() -> Fraction {
        Fraction(numerator: UInt32(int(0...1_000_000)), denominator: 1_000_000)
    }

    mutating func routeName() -> Route.Name { .init(object: text(), rule: text(), index: int(0...100)) }

    mutating func stringMatch() -> StringMatch {
        pick([.exact(text()), .prefix(text()), .regex(text()), .present])
    }

    mutating func namedMatch() -> NamedMatch { NamedMatch(name(), stringMatch()) }

    mutating func requestMatch() -> RequestMatch {
        var match = RequestMatch(
            path: maybe {
                $0.pick([.exact($0.text()), .prefix($0.text()), .elementPrefix($0.text()), .regex($0.text())])
            },
            headers: some { $0.namedMatch() })
        match.name = text()
        match.ignoresPathCase = bool()
        match.method = maybe { $0.stringMatch() }
        match.scheme = maybe { $0.stringMatch() }
        match.authority = maybe { $0.stringMatch() }
        match.withoutHeaders = some { $0.namedMatch() }
        match.queryParameters = some { $0.namedMatch() }
        match.port = maybe { $0.port() }
        match.sourceNamespace = maybe { $0.name() }
        match.sourceLabels = map({ $0.name() }, { $0.text() })
        return match
    }

    mutating func headerOperations() -> HeaderOperations {
        HeaderOperations(
            set: some { .init($0.name(), $0.name()) }, add: some { .init($0.name(), $0.name()) },
            remove: some { $0.name() })
    }

    mutating func destination() -> Destination {
        Destination(name(), port: maybe { $0.port() }, subset: maybe { $0.name() })
    }

    mutating func weightedDestination() -> WeightedDestination {
        var result = WeightedDestination(
            pick([.service(destination()), .unresolved(text())]), weight: UInt32(int(0...1_000_000)))
        result.requestHeaders = headerOperations()
        result.responseHeaders = headerOperations()
        result.authority = maybe { $0.name() }
        return result
    }

    mutating func pathRewrite() -> Rewrite.Path {
        pick([.matched(text()), .matchedElements(text()), .full(text()), .regex(text(), replacement: text())])
    }

    mutating func retryPolicy() -> RetryPolicy {
        var result = RetryPolicy(
            attempts: int(0...1_000), perTryTimeout: maybe { $0.duration() },
            conditions: RetryConditions(rawValue: UInt32(int(0...0xffff))),
            statuses: Set(some { $0.int(100...599) }))
        result.avoidsPreviousEndpoints = bool()
        result.usesRemoteLocalities = bool()
        result.backoff = duration()
        return result
    }

    mutating func routeAction() -> RouteAction {
        switch int(0...2) {
        case 0:
            return .redirect(
                Redirect(
                    status: pick([301, 302, 303, 307, 308]), scheme: maybe { $0.name() },
                    authority: maybe { $0.name() }, path: maybe { $0.pathRewrite() },
                    port: pick([.unchanged, .number(port()), .protocolDefault, .request])))
        case 1: return .respond(DirectResponse(status: int(200...600), body: Array(text().utf8)))
        default:
            var forwarding = Forwarding(some { $0.weightedDestination() })
            forwarding.rewrite = maybe { random in
                Rewrite(path: random.maybe { $0.pathRewrite() }, authority: random.maybe { $0.name() })
            }
            forwarding.timeout = maybe { $0.duration() }
            forwarding.retries = maybe { $0.retryPolicy() }
            forwarding.fault = maybe { random in
                Fault(
                    delay: random.maybe { .init($0.duration(), share: $0.fraction()) },
                    abort: random.maybe {
                        .init(
                            $0.pick([.http($0.int(200...599)), .grpc($0.pick(GRPCStatusCode.allCases))]),
                            share: $0.fraction())
                    })
            }
            forwarding.mirrors = some { Mirror($0.destination(), share: $0.fraction()) }
            return .forward(forwarding)
        }
    }

    mutating func route() -> Route {
        var route = Route(routeName(), matches: some { $0.requestMatch() }, action: routeAction())
        route.requestHeaders = headerOperations()
        route.responseHeaders = headerOperations()
        route.cors = maybe { random in
            var policy = CORSPolicy()
            policy.allowOrigins = random.some { $0.stringMatch() }
            policy.allowMethods = random.some { $0.name() }
            policy.allowHeaders = random.some { $0.name() }
            policy.exposeHeaders = random.some { $0.name() }
            policy.maxAge = random.maybe { $0.duration() }
            policy.allowCredentials = random.maybe { $0.bool() }
            policy.forwardsUnmatchedPreflights = random.bool()
            return policy
        }
        return route
    }

    mutating func streamRoute() -> StreamRoute {
        StreamRoute(
            routeName(),
            matches: some { random in
                var match = StreamRoute.Match(
                    serverNames: random.some { $0.name() }, port: random.maybe { $0.port() })
                match.destinationSubnets = random.some { $0.prefix() }
                match.sourceNamespace = random.maybe { $0.name() }
                match.sourceLabels = random.map({ $0.name() }, { $0.text() })
                return match
            }, destinations: some { $0.weightedDestination() })
    }

    mutating func destinationPolicy() -> DestinationPolicy {
        DestinationPolicy(
            namespacedName(), sources: some { $0.text() }, traffic: trafficPolicy(),
            ports: map({ $0.port() }, { $0.trafficPolicy() }),
            subsets: map(
                { $0.name() },
                { random in
                    .init(
                        labels: random.map({ $0.name() }, { $0.text() }),
                        endpoints: Set(random.some { $0.text() }),
                        traffic: random.trafficPolicy(),
                        ports: random.map({ $0.port() }, { $0.trafficPolicy() }))
                }))
    }

    mutating func loadBalancing() -> LoadBalancing {
        let key: LoadBalancing.HashKey = pick([
            .header(name()), .query(name()), .sourceIP,
            .cookie(name: name(), path: maybe { $0.text() }, lifetime: maybe { $0.duration() }),
        ])
        let algorithm: LoadBalancing.HashAlgorithm = pick([
            .ring(minimumSize: int(0...8_388_608)), .maglev(tableSize: int(3...5_000_011)),
        ])
        return LoadBalancing(
            pick([
                .roundRobin, .leastRequest, .random, .passthrough, .peakEWMA, .hash(key, algorithm),
            ]),
            locality: maybe { random in
                .init(
                    distribute: random.some {
                        .init(from: $0.text(), to: $0.map({ $0.name() }, { UInt32($0.int(0...100)) }))
                    },
                    failover: random.some { .init(from: $0.text(), to: $0.text()) },
                    failoverPriority: random.some { $0.text() })
            },
            warmup: maybe {
                .init(
                    duration: $0.duration(), minimumPercent: Double($0.int(0...100)),
                    aggression: Double($0.int(1...1_000)) / 1)
            })
    }

    mutating func trafficPolicy() -> TrafficPolicy {
        var result = TrafficPolicy()
        result.loadBalancing = loadBalancing()
        var pool = ConnectionPool()
        pool.maxConnections = maybe { $0.int(1...1_000) }
        pool.connectTimeout = duration()
        pool.maxConnectionDuration = maybe { $0.duration() }
        pool.tcpIdleTimeout = duration()
        pool.keepalive = maybe { random in
            .init(
                probes: random.maybe { $0.int(1...9) }, time: random.maybe { $0.duration() },
                interval: random.maybe { $0.duration() })
        }
        pool.maxPendingRequests = maybe { $0.int(1...1_000) }
        pool.maxRequests = maybe { $0.int(1...1_000) }
        pool.maxRequestsPerConnection = maybe { $0.int(1...1_000) }
        pool.maxRetries = maybe { $0.int(1...1_000) }
        pool.httpIdleTimeout = duration()
        pool.h2Upgrade = pick(ConnectionPool.H2Upgrade.allCases)
        pool.usesClientProtocol = bool()
        pool.maxConcurrentStreams = maybe { $0.int(1...1_000) }
        result.connectionPool = pool
        result.outlierDetection = maybe { random in
            var detection = OutlierDetection()
            detection.consecutive5xxErrors = random.maybe { $0.int(1...9) }
            detection.consecutiveGatewayErrors = random.maybe { $0.int(1...9) }
            detection.consecutiveLocalOriginFailures = random.maybe { $0.int(1...9) }
            detection.splitsLocalOriginErrors = random.bool()
            detection.interval = random.duration() + .nanoseconds(1)
            detection.baseEjectionTime = random.duration()
            detection.maxEjectionPercent = random.int(0...100)
            detection.minHealthPercent = random.int(0...100)
            return detection
        }
        result.tls = maybe { random in
            TLSOrigination(
                isMutual: random.bool(), clientCertificate: random.maybe { $0.text() },
                privateKey: random.maybe { $0.text() }, caCertificates: random.maybe { $0.text() },
                caCRL: random.maybe { $0.text() }, credentialName: random.maybe { $0.text() },
                subjectAltNames: random.some { $0.text() }, serverName: random.maybe { $0.text() },
                skipsVerification: random.bool())
        }
        result.retryBudget = maybe { random in
            RetryBudget(
                percent: Double(random.int(0...1_000)) / 10, minimumConcurrency: random.int(0...100),
                interval: random.maybe { $0.duration() })
        }
        return result
    }
}
