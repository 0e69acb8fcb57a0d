import Address
import Documents
import Manifests
import Mesh

/// `warren.dev/waypoint: strict`, a label or an annotation on a Namespace, Service, ServiceEntry or Pod: what should have come through
/// a waypoint and did not is refused where it arrives.
///
/// It becomes a DENY policy of the pods behind such a waypoint, so that the data path, the log, the metrics and `explain` know it as they know
/// any policy. Whoever asks through the waypoint bears its identity; all others are denied, those without identity too. The
/// ports are those of the services that ask for it, and all where the pod itself uses a waypoint. Nobody is admitted where
/// the waypoint does not exist. A port that two services share is open to the waypoints of those that ask for this, and to no other.
struct StrictWaypointIndex {
    private(set) var policies: [NamespacedName: Policy] = [:]

    private let index: ObjectIndex
    private let identities: [NamespacedName: [String]]
    /// What a service's key belongs to.
    private let services: [NamespacedName: ObjectMeta]

    fileprivate static let wish = Wish(key: "warren.dev/waypoint", value: "strict")
    /// A match holds only where it names something.
    private static let everywhere = [Prefix("0.0.0.0/0"), Prefix("::/0")].compactMap(\.self)

    init(_ index: ObjectIndex) {
        self.index = index
        identities = index.waypointDeclarations().mapValues { $0.identities.map(\.principal).sorted() }
        var services: [NamespacedName: ObjectMeta] = [:]
        for service in index.services.values.joined() {
            let key = NamespacedName(namespace: service.meta.namespace, name: index.hostname(of: service))
            services[key] = service.meta
        }
        // A Service goes before a ServiceEntry of its name, and the older entry before others, as where they are compiled.
        for entry in index.serviceEntries.sorted(by: { $0.meta.isOlder(than: $1.meta) }) {
            for host in entry.hosts {
                let key = NamespacedName(namespace: entry.meta.namespace, name: host)
                if services[key] == nil { services[key] = entry.meta }
            }
        }
        self.services = services
    }

    /// The policy that a pod has to name; makes it where there is none yet.
    mutating func names(for pod: PodManifest, _ workload: Workload) -> [NamespacedName] {
        let isStrict = Self.wish.holds(for: pod.meta, index)
        var ports: [UInt16: Set<NamespacedName>] = [:]
        for (key, mapping) in workload.services {
            guard let meta = services[key], isStrict || Self.wish.holds(for: meta, index),
                let waypoints = index.waypoints.meant(meta, .service)
            else { continue }
            for (servicePort, target) in mapping {
                ports[target == 0 ? servicePort : target, default: []].formUnion(waypoints)
            }
        }
        let whole = isStrict ? index.waypoints.meant(pod.meta, .workload).map(Set.init) : nil
        // Whoever may call the pod through its own waypoint may do so at every port.
        if let whole { for port in ports.keys { ports[port]?.formUnion(whole) } }
        guard whole != nil || !ports.isEmpty else { return [] }
        let name = NamespacedName(
            namespace: pod.meta.namespace, name: title(whole, ports, in: pod.meta.namespace))
        if policies[name] == nil {
            policies[name] = Policy(
                name: name, scope: .workloadSelector, action: .deny, rules: rules(whole, ports))
        }
        return [name]
    }

    private func rules(_ whole: Set<NamespacedName>?, _ ports: [UInt16: Set<NamespacedName>]) -> [Policy.Rule]
    {
        var matches = groups(ports).map { waypoints, ports in
            var match = Policy.Match()
            match.destinationPorts = ports
            match.notPrincipals = principals(waypoints)
            return match
        }
        if let whole {
            var match = Policy.Match()
            match.sourceIPs = Self.everywhere
            match.notDestinationPorts = ports.keys.sorted()
            match.notPrincipals = principals(whole)
            matches.append(match)
        }
        return matches.map { Policy.Rule(clauses: [Policy.Clause(matches: [$0])]) }
    }

    private func principals(_ waypoints: Set<NamespacedName>) -> [Policy.StringMatch] {
        Set(waypoints.flatMap { identities[$0] ?? [] }).sorted().map { .exact($0) }
    }

    /// Ports of the same waypoints, in the order of the first of each.
    private func groups(
        _ ports: [UInt16: Set<NamespacedName>]
    ) -> [(waypoints: Set<NamespacedName>, ports: [UInt16])] {
        Dictionary(grouping: ports.keys) { ports[$0] ?? [] }
            .map { (waypoints: $0.key, ports: $0.value.sorted()) }
            .sorted { $0.ports[0] < $1.ports[0] }
    }

    /// Says what the policy holds, and is another for another content: `strict_waypoint_wp_80,443`.
    private func title(
        _ whole: Set<NamespacedName>?, _ ports: [UInt16: Set<NamespacedName>], in namespace: String
    ) -> String {
        func names(_ waypoints: Set<NamespacedName>) -> String {
            guard !waypoints.isEmpty else { return "nobody" }
            return waypoints.sorted().map {
                $0.namespace == namespace ? $0.name : "\($0.namespace):\($0.name)"
            }.joined(separator: "+")
        }
        let parts = groups(ports).map { waypoints, ports in
            names(waypoints) + "_" + ports.map(String.init).joined(separator: ",")
        }
        return (["strict_waypoint"] + parts + (whole.map { ["\(names($0))_every"] } ?? []))
            .joined(separator: "_")
    }
}

extension ObjectIndex {
    func strictWaypointWarnings() -> [Problem] {
        StrictWaypointIndex.wish.warnings(
            self,
            and: services.values.joined().map { ("Service \($0.meta.namespace)/\($0.meta.name)", $0.meta) }
                + serviceEntries.map { ("ServiceEntry \($0.meta.namespace)/\($0.meta.name)", $0.meta) })
    }
}
