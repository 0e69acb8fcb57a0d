import L7
import Mesh
import Routing
import Telemetry

/// The members `routes` and `destinations` of `/config_dump`, which `warren config` shows. The names of fields stay; `text` is words
/// for people. What is by default, or absent, is left out where it has no figure.
extension JSONWriter {
    mutating func routing(
        _ services: [NamespacedName: CompiledWaypointService], _ snapshot: Snapshot, own: WorkloadEntry?
    ) {
        let sorted = services.values.sorted { $0.service.key < $1.service.key }
        arrayMember("routes") { json in
            for compiled in sorted {
                for (number, port) in compiled.service.ports.sorted(by: { $0.key < $1.key }) {
                    json.routes(of: compiled.service.key, number, port)
                }
            }
        }
        arrayMember("destinations") { json in
            for described in DescribedDestination.all(of: sorted) {
                json.destinations(described, snapshot, own: own)
            }
        }
    }

    // MARK: Routes

    private mutating func routes(of key: NamespacedName, _ number: UInt16, _ port: WaypointService.Port) {
        object { json in
            json.member("namespace", key.namespace)
            json.member("service", key.name)
            json.member("port", number)
            json.member("protocol", port.appProtocol.dumpText)
            json.arrayMember("virtualHosts", of: port.virtualHosts) { json, host in
                json.object { json in
                    json.member("name", host.name)
                    json.arrayMember("domains", of: host.domains)
                    json.arrayMember("routes", of: host.routes) { $0.route($1) }
                }
            }
            json.arrayMember("streams", of: port.streams) { json, stream in
                json.object { json in
                    json.name(stream.name)
                    json.arrayMember("matches", of: stream.matches) { $0.match($1) }
                    json.objectMember("action") { json in
                        json.member("text", stream.destinations.text)
                        json.member("type", "forward")
                        json.weighted(stream.destinations)
                    }
                }
            }
        }
    }

    private mutating func name(_ name: Route.Name) {
        member("name", name.description)
        member("object", name.object)
        if !name.rule.isEmpty { member("rule", name.rule) }
        member("index", name.index)
    }

    private mutating func route(_ route: Route) {
        object { json in
            json.name(route.name)
            json.arrayMember("matches", of: route.matches) { $0.match($1) }
            json.objectMember("action") { json in
                json.member("text", route.action.text)
                json.action(route.action)
            }
            json.headers("requestHeaders", route.requestHeaders)
            json.headers("responseHeaders", route.responseHeaders)
            if let cors = route.cors { json.objectMember("cors") { $0.cors(cors) } }
        }
    }

    private mutating func match(_ match: RequestMatch) {
        object { json in
            json.member("text", match.text)
            if !match.name.isEmpty { json.member("name", match.name) }
            if let path = match.path {
                json.objectMember("path") { json in
                    switch path {
                    case .exact(let text): json.member("exact", text)
                    case .prefix(let text): json.member("prefix", text)
                    case .elementPrefix(let text): json.member("elementPrefix", text)
                    case .regex(let text): json.member("regex", text)
                    }
                }
                if match.ignoresPathCase { json.member("ignoresPathCase", true) }
            }
            let compared = [
                ("method", match.method), ("scheme", match.scheme), ("authority", match.authority),
            ]
            for (name, value) in compared {
                if let value { json.objectMember(name) { $0.comparison(value) } }
            }
            json.named("headers", match.headers)
            json.named("withoutHeaders", match.withoutHeaders)
            json.named("queryParameters", match.queryParameters)
            if let port = match.port { json.member("port", port) }
            json.source(namespace: match.sourceNamespace, labels: match.sourceLabels)
        }
    }

    private mutating func match(_ match: StreamRoute.Match) {
        object { json in
            json.member("text", match.text)
            if !match.serverNames.isEmpty { json.arrayMember("serverNames", of: match.serverNames) }
            if let port = match.port { json.member("port", port) }
            if !match.destinationSubnets.isEmpty {
                json.arrayMember("destinationSubnets", of: match.destinationSubnets.map(\.description))
            }
            json.source(namespace: match.sourceNamespace, labels: match.sourceLabels)
        }
    }

    private mutating func source(namespace: String?, labels: [String: String]) {
        if let namespace { member("sourceNamespace", namespace) }
        if !labels.isEmpty { self.labels("sourceLabels", labels) }
    }

    private mutating func labels(_ name: String, _ labels: [String: String]) {
        objectMember(name) { json in
            for (key, value) in labels.sorted(by: { $0.key < $1.key }) { json.member(key, value) }
        }
    }

    private mutating func named(_ name: String, _ matches: [NamedMatch]) {
        guard !matches.isEmpty else { return }
        arrayMember(name, of: matches) { json, match in
            json.object { json in
                json.member("name", match.name)
                json.comparison(match.value)
            }
        }
    }

    private mutating func comparison(_ match: StringMatch) {
        switch match {
        case .exact(let text): member("exact", text)
        case .prefix(let text): member("prefix", text)
        case .regex(let text): member("regex", text)
        case .present: member("present", true)
        }
    }

    private mutating func action(_ action: RouteAction) {
        switch action {
        case .forward(let forwarding):
            member("type", "forward")
            forward(forwarding)
        case .redirect(let redirect):
            member("type", "redirect")
            member("status", redirect.status)
            if let scheme = redirect.scheme { member("scheme", scheme) }
            if let authority = redirect.authority { member("authority", authority) }
            if let path = redirect.path { self.path(path) }
            switch redirect.port {
            case .unchanged: break
            case .number(let number): member("port", number)
            case .protocolDefault: member("portFrom", "protocol")
            case .request: member("portFrom", "request")
            }
        case .respond(let answer):
            member("type", "respond")
            member("status", answer.status)
            member("bodyBytes", answer.body.count)
        }
    }

    private mutating func forward(_ forwarding: Forwarding) {
        weighted(forwarding.destinations)
        if let rewrite = forwarding.rewrite {
            objectMember("rewrite") { json in
                if let path = rewrite.path { json.path(path) }
                if let authority = rewrite.authority { json.member("authority", authority) }
            }
        }
        if let timeout = forwarding.timeout { member("timeout", timeout.shortText) }
        if let retries = forwarding.retries {
            objectMember("retries") { json in
                json.member("attempts", retries.attempts)
                if let timeout = retries.perTryTimeout { json.member("perTryTimeout", timeout.shortText) }
                json.arrayMember(
                    "conditions",
                    of: RetryConditions.names.filter { retries.conditions.contains($0.1) }.map(\.0))
                json.arrayMember("statuses", of: retries.statuses.sorted()) { $0.number($1) }
                json.member("backoff", retries.backoff.shortText)
            }
        }
        if let fault = forwarding.fault {
            objectMember("fault") { json in
                if let delay = fault.delay {
                    json.objectMember("delay") { json in
                        json.member("duration", delay.duration.shortText)
                        json.member("share", delay.share.percentText)
                    }
                }
                if let abort = fault.abort {
                    json.objectMember("abort") { json in
                        switch abort.failure {
                        case .http(let status): json.member("httpStatus", status)
                        case .grpc(let code): json.member("grpcStatus", code.rawValue)
                        }
                        json.member("share", abort.share.percentText)
                    }
                }
            }
        }
        if !forwarding.mirrors.isEmpty {
            arrayMember("mirrors", of: forwarding.mirrors) { json, mirror in
                json.object { json in
                    json.destination(mirror.destination)
                    json.member("share", mirror.share.percentText)
                }
            }
        }
    }

    private mutating func weighted(_ destinations: [WeightedDestination]) {
        arrayMember("destinations", of: destinations) { json, weighted in
            json.object { json in
                switch weighted.target {
                case .service(let destination): json.destination(destination)
                case .unresolved(let reference): json.member("unresolved", reference)
                }
                json.member("weight", weighted.weight)
                json.headers("requestHeaders", weighted.requestHeaders)
                json.headers("responseHeaders", weighted.responseHeaders)
                if let authority = weighted.authority { json.member("authority", authority) }
            }
        }
    }

    private mutating func destination(_ destination: Destination) {
        member("host", destination.host)
        if let port = destination.port { member("port", port) }
        if let subset = destination.subset { member("subset", subset) }
    }

    private mutating func path(_ path: Rewrite.Path) {
        objectMember("path") { json in
            switch path {
            case .matched(let text): json.member("matched", text)
            case .matchedElements(let text): json.member("matchedElements", text)
            case .full(let text): json.member("full", text)
            case .regex(let pattern, let replacement):
                json.member("regex", pattern)
                json.member("replacement", replacement)
            }
        }
    }

    private mutating func headers(_ name: String, _ operations: HeaderOperations) {
        guard !operations.isEmpty else { return }
        objectMember(name) { json in
            for (kind, values) in [("set", operations.set), ("add", operations.add)] where !values.isEmpty {
                json.arrayMember(kind, of: values) { json, value in
                    json.object { json in
                        json.member("name", value.name)
                        json.member("value", value.value)
                    }
                }
            }
            if !operations.remove.isEmpty { json.arrayMember("remove", of: operations.remove) }
        }
    }

    private mutating func cors(_ cors: CORSPolicy) {
        arrayMember("allowOrigins", of: cors.allowOrigins) { json, origin in
            json.object { $0.comparison(origin) }
        }
        arrayMember("allowMethods", of: cors.allowMethods)
        arrayMember("allowHeaders", of: cors.allowHeaders)
        arrayMember("exposeHeaders", of: cors.exposeHeaders)
        if let age = cors.maxAge { member("maxAge", age.shortText) }
        if let allowed = cors.allowCredentials { member("allowCredentials", allowed) }
        member("forwardsUnmatchedPreflights", cors.forwardsUnmatchedPreflights)
    }

    // MARK: Destinations

    /// A row for each port, and for each subset of it; one without a port where the service is not known, or has none.
    private mutating func destinations(
        _ described: DescribedDestination, _ snapshot: Snapshot, own: WorkloadEntry?
    ) {
        let policy = described.policy
        let known = snapshot.service(policy.service)?.service.ports.map(\.servicePort) ?? []
        let ports = Set(known).union(policy.ports.keys).sorted().map(Optional.some)
        for port in ports.isEmpty ? [nil] : ports {
            for subset in [nil] + policy.subsets.keys.sorted().map(Optional.some) {
                guard let traffic = policy.traffic(port: port, subset: subset) else { continue }
                let destination = Destination(described.host, port: port, subset: subset)
                object { json in
                    json.member("host", described.host)
                    if let port { json.member("port", port) }
                    if let subset {
                        json.member("subset", subset)
                        json.labels("labels", policy.subsets[subset]?.labels ?? [:])
                    }
                    json.arrayMember("usedBy", of: described.users.map(\.service.key.description))
                    json.arrayMember("sources", of: policy.sources)
                    json.traffic(traffic)
                    let endpoints =
                        own.flatMap { own in
                            described.users.first.flatMap {
                                snapshot.endpoints(of: destination, for: $0, from: own)
                            }
                        } ?? []
                    json.arrayMember("endpoints", of: endpoints) { json, endpoint in
                        json.object { json in
                            json.member("uid", endpoint.id)
                            json.member("address", endpoint.address.description)
                            json.member("weight", endpoint.weight)
                        }
                    }
                }
            }
        }
    }

    private mutating func traffic(_ traffic: TrafficPolicy) {
        objectMember("loadBalancing") { $0.loadBalancing(traffic.loadBalancing) }
        objectMember("limits") { $0.limits(traffic.connectionPool) }
        if let outliers = traffic.outlierDetection {
            objectMember("outlierDetection") { json in
                json.member("text", outliers.text)
                json.member("consecutive5xxErrors", optional: outliers.consecutive5xxErrors)
                json.member("consecutiveGatewayErrors", optional: outliers.consecutiveGatewayErrors)
                json.member(
                    "consecutiveLocalOriginFailures", optional: outliers.consecutiveLocalOriginFailures)
                json.member("splitsLocalOriginErrors", outliers.splitsLocalOriginErrors)
                json.member("interval", outliers.interval.shortText)
                json.member("baseEjectionTime", outliers.baseEjectionTime.shortText)
                json.member("maxEjectionPercent", outliers.maxEjectionPercent)
                json.member("minHealthPercent", outliers.minHealthPercent)
            }
        }
        if let tls = traffic.tls {
            // Keys are files, named and not shown.
            objectMember("tls") { json in
                json.member("text", tls.text)
                json.member("mode", tls.isMutual ? "MUTUAL" : "SIMPLE")
                let texts = [
                    ("clientCertificate", tls.clientCertificate), ("privateKey", tls.privateKey),
                    ("caCertificates", tls.caCertificates), ("caCrl", tls.caCRL),
                    ("credentialName", tls.credentialName), ("serverName", tls.serverName),
                ]
                for (name, text) in texts { if let text { json.member(name, text) } }
                json.arrayMember("subjectAltNames", of: tls.subjectAltNames)
                json.member("skipsVerification", tls.skipsVerification)
            }
        }
        if let budget = traffic.retryBudget {
            objectMember("retryBudget") { json in
                json.member("percent", percentText(budget.percent))
                json.member("minimumConcurrency", budget.minimumConcurrency)
                if let interval = budget.interval { json.member("interval", interval.shortText) }
            }
        }
    }

    private mutating func loadBalancing(_ balancing: LoadBalancing) {
        member("text", balancing.text)
        switch balancing.method {
        case .roundRobin: member("method", "roundRobin")
        case .leastRequest: member("method", "leastRequest")
        case .random: member("method", "random")
        case .passthrough: member("method", "passthrough")
        case .peakEWMA: member("method", "peakEWMA")
        case .hash(let key, let algorithm):
            member("method", "hash")
            objectMember("key") { json in
                switch key {
                case .header(let name): json.member("header", name)
                case .query(let name): json.member("query", name)
                case .sourceIP: json.member("sourceAddress", true)
                case .cookie(let name, let path, let lifetime):
                    json.member("cookie", name)
                    if let path { json.member("path", path) }
                    if let lifetime { json.member("lifetime", lifetime.shortText) }
                }
            }
            switch algorithm {
            case .ring(let size): member("minimumRingSize", size)
            case .maglev(let size): member("tableSize", size)
            }
        }
        if let locality = balancing.locality {
            objectMember("locality") { json in
                json.arrayMember("distribute", of: locality.distribute) { json, distribution in
                    json.object { json in
                        json.member("from", distribution.from)
                        json.objectMember("to") { json in
                            for (place, share) in distribution.to.sorted(by: { $0.key < $1.key }) {
                                json.member(place, share)
                            }
                        }
                    }
                }
                json.arrayMember("failover", of: locality.failover) { json, failover in
                    json.object { json in
                        json.member("from", failover.from)
                        json.member("to", failover.to)
                    }
                }
                json.arrayMember("failoverPriority", of: locality.failoverPriority)
            }
        }
        if let warmup = balancing.warmup {
            objectMember("warmup") { json in
                json.member("duration", warmup.duration.shortText)
                json.member("minimum", percentText(warmup.minimumPercent))
                json.member("aggression", "\(warmup.aggression)")
            }
        }
    }

    private mutating func limits(_ pool: ConnectionPool) {
        member("text", pool.text)
        member("maxConnections", optional: pool.maxConnections)
        member("maxPendingRequests", optional: pool.maxPendingRequests)
        member("maxRequests", optional: pool.maxRequests)
        member("maxRequestsPerConnection", optional: pool.maxRequestsPerConnection)
        member("maxRetries", optional: pool.maxRetries)
        member("maxConcurrentStreams", optional: pool.maxConcurrentStreams)
        member("connectTimeout", pool.connectTimeout.shortText)
        member("tcpIdleTimeout", pool.tcpIdleTimeout.shortText)
        member("httpIdleTimeout", pool.httpIdleTimeout.shortText)
        if let longest = pool.maxConnectionDuration { member("maxConnectionDuration", longest.shortText) }
    }

    /// Nothing for nil: there is no limit, or it is not looked at.
    private mutating func member(_ name: String, optional value: Int?) {
        if let value { member(name, value) }
    }
}

/// A host with what is said of it, and the services whose routes may lead there: where they see different rules, each has its own.
private struct DescribedDestination {
    let host: String
    let policy: DestinationPolicy
    private(set) var users: [CompiledWaypointService]

    /// By host.
    static func all(of services: [CompiledWaypointService]) -> [DescribedDestination] {
        var found: [String: [DescribedDestination]] = [:]
        for compiled in services {
            for (host, policy) in compiled.service.destinations {
                if let index = found[host]?.firstIndex(where: { $0.policy == policy }) {
                    found[host]?[index].users.append(compiled)
                } else {
                    found[host, default: []].append(
                        DescribedDestination(host: host, policy: policy, users: [compiled]))
                }
            }
        }
        return found.sorted { $0.key < $1.key }.flatMap(\.value)
    }
}

extension Service.AppProtocol {
    fileprivate var dumpText: String {
        switch self {
        case .unknown: "unknown"
        case .http11: "http"
        case .http2: "http2"
        case .grpc: "grpc"
        case .tcp: "tcp"
        case .tls: "tls"
        }
    }
}
