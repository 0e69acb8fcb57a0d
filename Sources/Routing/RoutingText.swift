// What routes and policies are called in dumps and by commands: words for people, which nothing parses.

extension Duration {
    /// In the largest unit that says it in whole: `90s`, `250ms`, `1500us`.
    public var shortText: String {
        let (seconds, attoseconds) = components
        if attoseconds == 0 { return "\(seconds)s" }
        // Past what nanoseconds of 64 bits hold, fractions are no matter.
        guard seconds.magnitude < 1_000_000_000 else { return "\(seconds)s" }
        let nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
        if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
        return nanoseconds % 1_000 == 0 ? "\(nanoseconds / 1_000)us" : "\(nanoseconds)ns"
    }
}

extension Fraction {
    /// `12.5%`.
    public var percentText: String { Routing.percentText(Double(millionths) / 10_000) }
}

/// A share of 100, without a fraction where there is none.
public func percentText(_ percent: Double) -> String {
    Int(exactly: percent).map { "\($0)%" } ?? "\(percent)%"
}

extension StringMatch {
    /// After the name of what is compared.
    public var text: String {
        switch self {
        case .exact(let value): "is \(value)"
        case .prefix(let value): "starts with \(value)"
        case .regex(let value): "matches \(value)"
        case .present: "is there"
        }
    }
}

extension PathMatch {
    public var text: String {
        switch self {
        case .exact(let value): "path is \(value)"
        case .prefix(let value): "path starts with \(value)"
        case .elementPrefix(let value): "path is \(value) or below"
        case .regex(let value): "path matches \(value)"
        }
    }
}

extension RequestMatch {
    /// Everything that has to hold.
    public var text: String {
        var parts: [String] = []
        if let path { parts.append(path.text + (ignoresPathCase ? " in any case" : "")) }
        if let method { parts.append("method \(method.text)") }
        if let scheme { parts.append("scheme \(scheme.text)") }
        if let authority { parts.append("authority \(authority.text)") }
        parts += headers.map { "header \($0.name) \($0.value.text)" }
        parts += withoutHeaders.map { "not header \($0.name) \($0.value.text)" }
        parts += queryParameters.map { "query \($0.name) \($0.value.text)" }
        if let port { parts.append("port is \(port)") }
        parts += sourceText(namespace: sourceNamespace, labels: sourceLabels)
        return parts.isEmpty ? "any request" : parts.joined(separator: " and ")
    }
}

extension StreamRoute.Match {
    /// Everything that has to hold.
    public var text: String {
        var parts: [String] = []
        if !serverNames.isEmpty { parts.append("server name is \(serverNames.joined(separator: " or "))") }
        if let port { parts.append("port is \(port)") }
        if !destinationSubnets.isEmpty {
            parts.append("address in \(destinationSubnets.map(\.description).joined(separator: " or "))")
        }
        parts += sourceText(namespace: sourceNamespace, labels: sourceLabels)
        return parts.isEmpty ? "any connection" : parts.joined(separator: " and ")
    }
}

private func sourceText(namespace: String?, labels: [String: String]) -> [String] {
    var parts = namespace.map { ["from namespace \($0)"] } ?? []
    parts += labels.sorted { $0.key < $1.key }.map { "from label \($0.key)=\($0.value)" }
    return parts
}

extension [WeightedDestination] {
    /// `web.shop.svc.cluster.local:80 subset v1 (80 of 100)`; the share is left out where there is one destination alone.
    public var text: String {
        let sum = reduce(into: UInt64(0)) { $0 += UInt64($1.weight) }
        let parts = map { destination in
            let target =
                switch destination.target {
                case .service(let service): service.description
                case .unresolved(let reference): "nowhere (\(reference) is not known)"
                }
            return count == 1 ? target : "\(target) (\(destination.weight) of \(sum))"
        }
        return parts.isEmpty ? "nowhere" : parts.joined(separator: ", ")
    }
}

extension RouteAction {
    public var text: String {
        switch self {
        case .forward(let forwarding): forwarding.text
        case .redirect(let redirect): redirect.text
        case .respond(let answer): "answer \(answer.status)"
        }
    }
}

extension Forwarding {
    /// Where requests go, and what else is asked for; what is by default is not said.
    public var text: String {
        var parts = [destinations.text]
        if let path = rewrite?.path { parts.append("path to \(path.text)") }
        if let authority = rewrite?.authority { parts.append("authority to \(authority)") }
        if let timeout { parts.append("timeout \(timeout.shortText)") }
        if let retries {
            parts.append(retries.attempts == 0 ? "no retries" : "\(retries.attempts) retries")
        }
        if let delay = fault?.delay {
            parts.append("delay \(delay.duration.shortText) for \(delay.share.percentText)")
        }
        if let abort = fault?.abort {
            parts.append("abort \(abort.failure.text) for \(abort.share.percentText)")
        }
        parts += mirrors.map { "mirror \($0.share.percentText) to \($0.destination)" }
        return parts.joined(separator: "; ")
    }
}

extension Fault.Failure {
    public var text: String {
        switch self {
        case .http(let status): "\(status)"
        case .grpc(let code): "gRPC \(code.rawValue)"
        }
    }
}

extension Rewrite.Path {
    public var text: String {
        switch self {
        case .matched(let path), .matchedElements(let path): "\(path) in place of what matched"
        case .full(let path): path
        case .regex(let pattern, let replacement): "\(replacement) in place of \(pattern)"
        }
    }
}

extension Redirect {
    public var text: String {
        var parts = ["redirect \(status)"]
        if let scheme { parts.append("scheme \(scheme)") }
        if let authority { parts.append("authority \(authority)") }
        switch port {
        case .unchanged: break
        case .number(let number): parts.append("port \(number)")
        case .protocolDefault: parts.append("port of the scheme")
        case .request: parts.append("port of the request")
        }
        if let path { parts.append("path to \(path.text)") }
        return parts.joined(separator: ", ")
    }
}

extension LoadBalancing {
    public var text: String {
        var parts = [method.text]
        if let locality {
            if !locality.distribute.isEmpty { parts.append("locality distributed") }
            if !locality.failover.isEmpty || !locality.failoverPriority.isEmpty {
                parts.append("locality failover")
            }
        }
        if let warmup { parts.append("warmup \(warmup.duration.shortText)") }
        return parts.joined(separator: "; ")
    }
}

extension LoadBalancing.Method {
    public var text: String {
        switch self {
        case .roundRobin: "round robin"
        case .leastRequest: "least request"
        case .random: "random"
        case .passthrough: "passthrough"
        case .peakEWMA: "peak EWMA"
        case .hash(let key, let algorithm): "\(algorithm.text) hash of \(key.text)"
        }
    }
}

extension LoadBalancing.HashKey {
    public var text: String {
        switch self {
        case .header(let name): "header \(name)"
        case .query(let name): "query \(name)"
        case .sourceIP: "source address"
        case .cookie(let name, _, _): "cookie \(name)"
        }
    }
}

extension LoadBalancing.HashAlgorithm {
    public var text: String {
        switch self {
        case .ring: "ring"
        case .maglev: "maglev"
        }
    }
}

extension ConnectionPool {
    /// What is limited; empty where nothing is.
    public var text: String {
        let limits: [(String, Int?)] = [
            ("connections", maxConnections), ("requests", maxRequests), ("pending", maxPendingRequests),
            ("requests/connection", maxRequestsPerConnection), ("streams/connection", maxConcurrentStreams),
            ("retries", maxRetries),
        ]
        return limits.compactMap { name, limit in limit.map { "\(name) \($0)" } }.joined(separator: ", ")
    }
}

extension OutlierDetection {
    public var text: String {
        var parts: [String] = []
        if let count = consecutive5xxErrors { parts.append("\(count) of 5xx") }
        if let count = consecutiveGatewayErrors { parts.append("\(count) gateway errors") }
        if splitsLocalOriginErrors, let count = consecutiveLocalOriginFailures {
            parts.append("\(count) local failures")
        }
        guard !parts.isEmpty else { return "never out" }
        return "out after \(parts.joined(separator: " or ")) for \(baseEjectionTime.shortText)"
    }
}

extension TLSOrigination {
    public var text: String { "TLS \(isMutual ? "MUTUAL" : "SIMPLE")" }
}
