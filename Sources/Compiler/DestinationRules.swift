import Documents
import Manifests
import Mesh
import Routing

/// What holds for the traffic to a host, by the DestinationRules of the namespaces that count.
struct DestinationRuleIndex {
    /// The oldest first.
    private let rules: [DestinationRule]
    /// Places in `rules` by exact host, and with wildcards.
    private var exact: [String: [Int]] = [:]
    private var wildcards: [(host: HostPattern, place: Int)] = []
    private let hosts: HostDirectory
    private let rootNamespace: String
    private let labels: [String: [String: String]]
    private let endpoints: [NamespacedName: [String]]
    /// Of services, by their keys.
    private let annotations: [NamespacedName: ObjectMeta]
    private(set) var used: Set<ObjectKey> = []
    private var warned = Set<Problem>()
    var warnings: [Problem] { Array(warned) }

    private static let annotation = "warren.dev/load-balancer"

    /// - Parameters:
    ///   - labels: of workloads, by uid.
    ///   - endpoints: the uids of a service's workloads.
    ///   - sources: the objects that services come from.
    init(
        _ rules: [DestinationRule], _ hosts: HostDirectory, rootNamespace: String,
        labels: [String: [String: String]], endpoints: [NamespacedName: [String]],
        sources: [NamespacedName: ObjectMeta]
    ) {
        self.rules = rules.sorted { $0.meta.isOlder(than: $1.meta) }
        self.hosts = hosts
        self.rootNamespace = rootNamespace
        self.labels = labels
        self.endpoints = endpoints
        annotations = sources
        for (place, rule) in self.rules.enumerated() where rule.selector == nil {
            let host = host(of: rule)
            if host.hasPrefix("*") {
                wildcards.append((HostPattern(host), place))
            } else {
                exact[host, default: []].append(place)
            }
        }
    }

    /// How a waypoint of `namespace` treats the traffic to a service. Rules of its own namespace come first, then those of the
    /// service's, then those of the root namespace; within a namespace the most specific host.
    mutating func policy(for service: Service, waypointNamespace: String) -> DestinationPolicy {
        let rules = applicable(to: service, waypointNamespace: waypointNamespace)
        let method = defaultMethod(of: service)
        var result = DestinationPolicy(
            service.key, sources: rules.map { "DestinationRule \($0.meta.namespace)/\($0.meta.name)" })
        for rule in rules {
            used.insert(
                ObjectKey(kind: .destinationRule, namespace: rule.meta.namespace, name: rule.meta.name))
        }
        let owner = rules.first { $0.trafficPolicy != nil }
        let top = owner?.trafficPolicy
        for rule in rules where rule.trafficPolicy != nil && rule.meta != owner?.meta {
            warn(
                rule.meta,
                "its trafficPolicy has no effect: that of DestinationRule \(name(owner?.meta)) is older and for the same host; its subsets are added to those"
            )
        }
        let ports = Set(service.ports.map(\.servicePort))
        func sections(_ subset: DestinationRule.TrafficPolicy?, _ port: UInt16?) -> TrafficPolicy {
            PolicySections().merging(top, port: port).merging(subset, port: port).compiled(default: method)
        }
        func ownPorts(_ policies: DestinationRule.TrafficPolicy?...) -> [UInt16] {
            Set(policies.flatMap { $0.map { Array($0.ports.keys) } ?? [] }).sorted()
        }
        result.traffic = sections(nil, nil)
        for port in ownPorts(top) { result.ports[port] = sections(nil, port) }
        for rule in rules {
            for subset in rule.subsets {
                guard result.subsets[subset.name] == nil else {
                    warn(
                        rule.meta,
                        "its subset \(quoted(subset.name)) has no effect: an older DestinationRule for the same host has one of that name"
                    )
                    continue
                }
                let members = (endpoints[service.key] ?? []).filter { uid in
                    subset.labels.allSatisfy { labels[uid]?[$0.key] == $0.value }
                }
                if members.isEmpty, !(endpoints[service.key] ?? []).isEmpty {
                    warn(
                        rule.meta,
                        "no endpoint of \(service.hostname) has the labels of its subset \(quoted(subset.name)) (\(Self.text(subset.labels))): requests for it are answered 503"
                    )
                }
                var compiled = DestinationPolicy.Subset(labels: subset.labels, endpoints: Set(members))
                compiled.traffic = sections(subset.trafficPolicy, nil)
                for port in ownPorts(top, subset.trafficPolicy) {
                    compiled.ports[port] = sections(subset.trafficPolicy, port)
                }
                result.subsets[subset.name] = compiled
            }
            for port in ownPorts(rule.trafficPolicy) where !ports.contains(port) {
                warn(
                    rule.meta,
                    "its portLevelSettings for port \(port) have no effect: \(service.hostname) has no such port"
                )
            }
            warnOfTLS(rule)
        }
        return result
    }

    private func applicable(to service: Service, waypointNamespace: String) -> [DestinationRule] {
        let found =
            (exact[service.hostname] ?? []).map { (HostPattern(service.hostname), $0) }
            + wildcards.filter { $0.host.matches(service.hostname) }
        for namespace in [waypointNamespace, service.namespace, rootNamespace] {
            let candidates = found.filter { _, place in
                let rule = rules[place]
                return rule.meta.namespace == namespace
                    && isExported(rule.exportTo, of: namespace, to: waypointNamespace)
            }
            guard let best = candidates.map(\.0).min(by: { $0.rank < $1.rank }) else { continue }
            return candidates.filter { $0.0 == best }.map { rules[$0.1] }
        }
        return []
    }

    private func host(of rule: DestinationRule) -> String {
        hosts.fullName(rule.host, in: rule.meta.namespace)
    }

    /// By the annotation of the service's object; a DestinationRule that names a method comes before it.
    private mutating func defaultMethod(of service: Service) -> LoadBalancing.Method {
        guard let meta = annotations[service.key], let wish = meta.annotations[Self.annotation] else {
            return .leastRequest
        }
        guard wish == "peak-ewma" else {
            warned.insert(
                Problem(
                    .warning, at: meta.position,
                    "\(hosts.description(of: service)): annotation \(Self.annotation) is \(quoted(wish)); the only value is peak-ewma, and it has no effect"
                ))
            return .leastRequest
        }
        warned.insert(
            Problem(
                .warning, at: meta.position,
                "\(hosts.description(of: service)): annotation \(Self.annotation) is not enforced yet: endpoints are chosen by least request"
            ))
        return .peakEWMA
    }

    private mutating func warnOfTLS(_ rule: DestinationRule) {
        let policies = [rule.trafficPolicy] + rule.subsets.map(\.trafficPolicy)
        let all = policies.compactMap { $0 }.flatMap { [$0] + $0.ports.values }
        if all.contains(where: { $0.tls?.mode == .istioMutual }) {
            warn(
                rule.meta,
                "its tls mode ISTIO_MUTUAL has no effect: a waypoint reaches pods of the mesh by mutual TLS anyway, and others by none"
            )
        }
        if all.contains(where: {
            $0.tls?.mode == .simple && $0.tls?.caCertificates == nil && $0.tls?.credentialName == nil
                && $0.tls?.skipsVerification != true
        }) {
            warn(
                rule.meta,
                "its tls names no caCertificates: endpoints are verified against the roots of the operating system"
            )
        }
    }

    private mutating func warn(_ meta: ObjectMeta, _ message: String) {
        warned.insert(Problem(.warning, at: meta.position, "DestinationRule \(name(meta)): \(message)"))
    }

    private func name(_ meta: ObjectMeta?) -> String { meta.map { "\($0.namespace)/\($0.name)" } ?? "" }

    static func text(_ labels: [String: String]) -> String {
        labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
    }

    /// Rules that no waypoint goes by, and why.
    ///
    /// - Parameter advice: what to do about a service without a waypoint; nil for one that has one.
    func unusedWarnings(_ advice: (Service) -> String?) -> [Problem] {
        rules.compactMap { rule in
            let key = ObjectKey(kind: .destinationRule, namespace: rule.meta.namespace, name: rule.meta.name)
            guard !used.contains(key) else { return nil }
            func problem(_ reason: String) -> Problem {
                Problem(.warning, at: rule.meta.position, "\(key) has no effect: \(reason)")
            }
            if rule.selector != nil {
                return problem("a workloadSelector selects pods with a sidecar, and there are none here")
            }
            let services = hosts.services(matching: host(of: rule))
            guard let first = services.first else {
                return problem("\(host(of: rule)) is no Service and no ServiceEntry")
            }
            if let advice = services.lazy.compactMap(advice).first { return problem(advice) }
            return problem(
                "the waypoint of \(first.hostname) goes by one that is more specific, or nearer: of the waypoint's own namespace, of the service's, then of \(rootNamespace)"
            )
        }
    }
}
