import Address
import Mesh
import TestMessages
import TestSupport

// Models with everything set that the wire can carry, from a seed.

extension SeededGenerator {
    mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: 0..<values.count, using: &self)]
    }

    mutating func some<Value>(_ value: (inout SeededGenerator) -> Value) -> [Value] {
        (0..<Int.random(in: 0...3, using: &self)).map { _ in value(&self) }
    }

    mutating func maybe<Value>(_ value: (inout SeededGenerator) -> Value) -> Value? {
        next() % 2 == 0 ? nil : value(&self)
    }

    mutating func name() -> String {
        pick(["a", "web-1", "x.y", "default", "under_score"]) + "\(next() % 100)"
    }

    mutating func port() -> UInt16 { UInt16.random(in: 1...65_535, using: &self) }

    mutating func address() -> IPAddress {
        next() % 2 == 0
            ? IPAddress(ipv4: UInt32(truncatingIfNeeded: next()))
            : IPAddress(ipv6High: 0xfd00_0000_0000_0000 | next() >> 8, low: next())
    }

    mutating func prefix() -> Prefix {
        let address = address()
        return Prefix(address, length: Int.random(in: 0...address.bitCount, using: &self)) ?? Prefix(address)
    }

    mutating func namespacedName() -> NamespacedName { NamespacedName(namespace: name(), name: name()) }

    mutating func gateway() -> GatewayAddress {
        let destination: GatewayAddress.Destination =
            next() % 2 == 0
            ? .hostname(namespacedName())
            : .address(NetworkAddress(network: pick(["", "n"]), address: address()))
        return GatewayAddress(destination: destination, hbonePort: port())
    }

    mutating func workload() -> Workload {
        Workload(
            uid: text() + "uid", name: name(), namespace: name(), addresses: some { $0.address() },
            hostname: text(), network: text(), tunnelProtocol: pick([.none, .hbone]), trustDomain: name(),
            serviceAccount: name(), waypoint: maybe { $0.gateway() }, networkGateway: maybe { $0.gateway() },
            node: text(), canonicalName: text(), canonicalRevision: text(),
            kind: pick([.deployment, .cronJob, .pod, .job]), workloadName: text(),
            nativeTunnel: Bool.random(using: &self),
            applicationTunnel: maybe {
                .init(kind: $0.pick([.none, .proxy]), port: $0.pick([0, $0.port()]))
            },
            services: Dictionary(
                some { random in
                    let ports = random.some { ($0.port(), $0.port()) }
                    return (random.namespacedName(), Dictionary(ports, uniquingKeysWith: { $1 }))
                }, uniquingKeysWith: { $1 }),
            authorizationPolicies: some { $0.namespacedName() }.sorted(),
            status: pick([.healthy, .unhealthy]), clusterID: name(),
            locality: Locality(region: text(), zone: text(), subzone: text()),
            networkMode: pick([.standard, .hostNetwork]), capacity: pick([0, 1, 7]),
            encryptsOnSameNode: Bool.random(using: &self))
    }

    mutating func service() -> Service {
        Service(
            name: text(), namespace: name(), hostname: name(),
            addresses: some { .init(network: $0.text(), prefix: $0.prefix()) },
            ports: some {
                .init(
                    servicePort: $0.port(), targetPort: $0.pick([0, $0.port()]),
                    appProtocol: $0.pick([.unknown, .http11, .http2, .grpc, .tcp, .tls]))
            },
            subjectAltNames: some { $0.text() }, waypoint: maybe { $0.gateway() },
            weightedWaypoints: some { .init(destination: $0.gateway(), weight: UInt32($0.next() % 101)) },
            loadBalancing: .init(
                routingPreference: some { $0.pick([.region, .zone, .subzone, .node, .cluster, .network]) },
                mode: pick([.unspecified, .strict, .failover, .passthrough]),
                allowsUnhealthy: Bool.random(using: &self)),
            ipFamilies: pick([.automatic, .ipv4Only, .ipv6Only, .dual]),
            isCanonical: Bool.random(using: &self), visibility: pick([.everywhere, .namespace]))
    }

    mutating func stringMatch() -> Policy.StringMatch {
        pick([.exact(text()), .prefix(text()), .suffix(text()), .presence])
    }

    mutating func match() -> Policy.Match {
        var match = Policy.Match()
        match.namespaces = some { $0.stringMatch() }
        match.notNamespaces = some { $0.stringMatch() }
        match.principals = some { $0.stringMatch() }
        match.notPrincipals = some { $0.stringMatch() }
        match.sourceIPs = some { $0.prefix() }
        match.notSourceIPs = some { $0.prefix() }
        match.destinationIPs = some { $0.prefix() }
        match.notDestinationIPs = some { $0.prefix() }
        match.destinationPorts = some { $0.port() }
        match.notDestinationPorts = some { $0.port() }
        match.serviceAccounts = some { .init(namespace: $0.name(), serviceAccount: $0.name()) }
        match.notServiceAccounts = some { .init(namespace: $0.name(), serviceAccount: $0.name()) }
        return match
    }

    mutating func policy() -> Policy {
        Policy(
            name: namespacedName(), scope: pick([.global, .namespace, .workloadSelector]),
            action: pick([.allow, .deny]),
            rules: some { .init(clauses: $0.some { .init(matches: $0.some { $0.match() }) }) },
            isDryRun: Bool.random(using: &self))
    }

    mutating func localPod() -> LocalPod {
        LocalPod(
            uid: text() + "u", namespace: name(), name: name(), serviceAccount: name(),
            labels: Dictionary(some { ($0.text(), $0.text()) }, uniquingKeysWith: { $1 }),
            addresses: some { $0.address() }, networkNamespace: pick(["", "/run/netns/a", "b"]))
    }
}
