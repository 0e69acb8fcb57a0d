import Address
import Mesh

/// An endpoint and the application port it serves the asked service port on.
struct ChosenEndpoint {
    let endpoint: Endpoint
    let port: UInt16
}

/// An endpoint of a service, for whoever chooses among them itself.
public struct EndpointCandidate: Sendable {
    public let workload: WorkloadEntry
    /// Of the application.
    public let address: SocketAddress
    /// Its capacity: endpoints get connections in proportion.
    public let weight: UInt32
}

/// The endpoints of a service's port that its locality rules leave to a waypoint, in its own network.
///
/// - Parameter isIPv4: the family that is preferred where an endpoint has both.
public func candidates(
    of service: ServiceEntry, port: UInt16, from waypoint: WorkloadEntry, isIPv4: Bool
) -> [EndpointCandidate] {
    var trace = Trace.off
    let found = candidates(of: service, port: port, from: waypoint.workload, without: [], trace: &trace)
    return found.compactMap { chosen, _ in
        let workload = chosen.endpoint.workload
        guard workload.workload.network == waypoint.workload.network,
            let address = chooseAddress(
                of: workload.workload, family: isIPv4, families: service.service.ipFamilies)
        else { return nil }
        return EndpointCandidate(
            workload: workload, address: SocketAddress(address, chosen.port),
            weight: workload.workload.capacity)
    }
}

/// Picks among a service's endpoints by locality, then at random by capacity (ztunnel.md §1.5).
///
/// - Parameter failed: uids of workloads that are passed over.
func chooseEndpoint(
    of service: ServiceEntry, port: UInt16, from source: Workload, without failed: Set<String>,
    randomness: inout some RandomNumberGenerator, trace: inout Trace
) -> ChosenEndpoint? {
    let candidates = candidates(of: service, port: port, from: source, without: failed, trace: &trace)
    let total = candidates.reduce(UInt64(0)) { $0 + UInt64($1.chosen.endpoint.workload.workload.capacity) }
    guard total > 0 else { return nil }
    var left = UInt64.random(in: 0..<total, using: &randomness)
    for candidate in candidates {
        let weight = UInt64(candidate.chosen.endpoint.workload.workload.capacity)
        if left < weight { return candidate.chosen }
        left -= weight
    }
    return nil
}

private func candidates(
    of service: ServiceEntry, port: UInt16, from source: Workload, without failed: Set<String>,
    trace: inout Trace
) -> [(chosen: ChosenEndpoint, locality: LocalityRank)] {
    var candidates: [(chosen: ChosenEndpoint, locality: LocalityRank)] = []
    let preferences = service.service.loadBalancing.routingPreference
    for endpoint in service.endpoints {
        let workload = endpoint.workload.workload
        guard !workload.addresses.isEmpty, !failed.contains(workload.uid),
            let target = targetPort(of: port, in: service, endpoint: endpoint)
        else { continue }
        let locality = LocalityRank(of: workload, for: source, preferences: preferences)
        candidates.append((ChosenEndpoint(endpoint: endpoint, port: target), locality))
    }
    switch service.service.loadBalancing.mode {
    case .strict:
        candidates.removeAll { !$0.locality.isComplete }
        trace.add("\(candidates.count) endpoints match every locality preference")
    case .failover:
        let best = candidates.map(\.locality.rank).max() ?? 0
        candidates.removeAll { $0.locality.rank < best }
        trace.add("\(candidates.count) endpoints are nearest")
    case .unspecified, .passthrough:
        break
    }
    return candidates
}

private func targetPort(of servicePort: UInt16, in service: ServiceEntry, endpoint: Endpoint) -> UInt16? {
    if let own = endpoint.ports[servicePort], own != 0 { return own }
    guard let port = service.service.ports.first(where: { $0.servicePort == servicePort }) else { return nil }
    return port.targetPort == 0 ? nil : port.targetPort
}

/// How near an endpoint is.
private struct LocalityRank {
    /// How many scopes agree, in order, up to the first that does not. When the network is preferred first, it outweighs
    /// all others together, and endpoints of another network are still ranked by the rest.
    var rank = 0
    /// Every scope agrees.
    var isComplete = true

    init(of workload: Workload, for source: Workload, preferences: [Service.LoadBalancing.Scope]) {
        for (index, scope) in preferences.enumerated() {
            let agrees =
                switch scope {
                case .region: workload.locality.region == source.locality.region
                case .zone: workload.locality.zone == source.locality.zone
                case .subzone: workload.locality.subzone == source.locality.subzone
                case .node: workload.node == source.node
                case .cluster: workload.clusterID == source.clusterID
                case .network: workload.network == source.network
                }
            if !agrees { isComplete = false }
            if index == 0 && scope == .network {
                rank += agrees ? preferences.count : 0
            } else if agrees {
                rank += 1
            } else {
                break
            }
        }
    }
}

/// One of a workload's addresses: of the family that was dialled if it has one that the service allows.
func chooseAddress(of workload: Workload, family isIPv4: Bool, families: Service.IPFamilies) -> IPAddress? {
    let allowed = workload.addresses.filter { address in
        switch families {
        case .ipv4Only: address.isIPv4
        case .ipv6Only: !address.isIPv4
        case .automatic, .dual: true
        }
    }
    return allowed.first { $0.isIPv4 == isIPv4 } ?? allowed.first
}
