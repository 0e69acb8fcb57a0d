import Address
import Mesh

/// What becomes of a connection that one of our workloads opened.
public enum OutboundPlan: Sendable {
    /// Not a destination of the mesh, or one that is not enrolled: plain TCP.
    case plain(PlainPlan)
    /// Another workload of this daemon, to be joined without a tunnel, if its inbound rules let it.
    case sameNode(SameNodePlan)
    /// One HBONE tunnel, to the workload itself or to a waypoint.
    case tunnel(TunnelPlan)
    case refuse(CloseReason)
}

/// A plain TCP connection.
public struct PlainPlan: Sendable {
    public let address: SocketAddress
    /// Nil when nothing is known of the address.
    public let workload: WorkloadEntry?
    public let service: ServiceEntry?
}

/// One CONNECT over one tunnel.
public struct TunnelPlan: Sendable {
    public enum Hop: Sendable { case workload, waypoint }

    public let hop: Hop
    /// Where the tunnel is dialled.
    public let address: SocketAddress
    /// The CONNECT authority.
    public let authority: String
    /// The address that it names; nil where one end of the tunnel is a waypoint.
    public let application: SocketAddress?
    /// Any one of these must be proven by the other end.
    public let expected: [Identity]
    /// Who the tunnel ends at.
    public let workload: WorkloadEntry
    /// The service that was asked for, if one was.
    public let service: ServiceEntry?
}

/// Decides about a captured outbound connection (ztunnel.md §1.4, §1.5).
///
/// - Parameters:
///   - source: who opened it; known from its network namespace, never from its address.
///   - client: the address that it came from; nil when nobody has opened it yet.
///   - destination: where it was going before the redirect.
///   - held: the pods of this daemon.
///   - failed: uids of workloads that this connection has tried in vain: no service's endpoint is chosen among them.
///   - randomness: picks among endpoints.
public func outbound(
    from source: WorkloadEntry, at client: IPAddress?, to destination: SocketAddress, held: HeldPods,
    without failed: Set<String> = [], snapshot: Snapshot, randomness: inout some RandomNumberGenerator,
    trace: inout Trace
) -> OutboundPlan {
    let plan = route(
        from: source, to: destination, without: failed, snapshot: snapshot, randomness: &randomness,
        trace: &trace)
    guard case .tunnel(let tunnel) = plan, let application = tunnel.application,
        let joined = sameNode(
            from: source, at: client?.canonical, to: tunnel.workload, at: application,
            service: tunnel.service,
            held: held, snapshot: snapshot, trace: &trace)
    else { return plan }
    return .sameNode(joined)
}

private func route(
    from source: WorkloadEntry, to destination: SocketAddress, without failed: Set<String>,
    snapshot: Snapshot, randomness: inout some RandomNumberGenerator, trace: inout Trace
) -> OutboundPlan {
    let target = destination.canonical
    if target.address.isLoopback && proxyPorts.contains(target.port) {
        trace.add("\(target) is the proxy itself")
        return .refuse(.recursiveCall)
    }
    let me = source.workload
    let key = NetworkAddress(network: me.network, address: target.address)

    if let workload = snapshot.workload(at: key) {
        trace.add("\(target.address) is workload \(workload.workload.uid)")
        return toWorkload(
            workload, target: target, from: source, without: failed, snapshot: snapshot, trace: &trace)
    }
    if let service = snapshot.service(at: key, from: me.namespace) {
        trace.add("\(target.address) is service \(service.service.key)")
        return toService(
            service, target: target, from: source, without: failed, snapshot: snapshot,
            randomness: &randomness, trace: &trace)
    }
    trace.add("\(target.address) is unknown to the mesh: passed through as it is")
    return .plain(PlainPlan(address: target, workload: nil, service: nil))
}

private func toService(
    _ service: ServiceEntry, target: SocketAddress, from source: WorkloadEntry,
    without failed: Set<String>, snapshot: Snapshot, randomness: inout some RandomNumberGenerator,
    trace: inout Trace
) -> OutboundPlan {
    let waypoint = weightedWaypoint(of: service.service, randomness: &randomness) ?? service.service.waypoint
    if let waypoint {
        trace.add("service \(service.service.key) is served through waypoint \(waypoint)")
        return toWaypoint(
            waypoint, target: target, service: service, from: source, without: failed, snapshot: snapshot,
            randomness: &randomness, trace: &trace)
    }
    if service.service.loadBalancing.mode == .passthrough {
        trace.add("the service asks for the original destination")
        return .plain(PlainPlan(address: target, workload: nil, service: service))
    }
    guard
        let chosen = chooseEndpoint(
            of: service, port: target.port, from: source.workload, without: failed, randomness: &randomness,
            trace: &trace)
    else {
        trace.add("no healthy endpoint of \(service.service.key) serves port \(target.port)")
        return .refuse(.noHealthyUpstream(target))
    }
    let workload = chosen.endpoint.workload
    guard workload.workload.network == source.workload.network else {
        return remoteNetwork(workload, trace: &trace)
    }
    guard
        let address = chooseAddress(
            of: workload.workload, family: target.address.isIPv4, families: service.service.ipFamilies)
    else {
        trace.add("\(workload.workload.uid) has no address that the service allows")
        return .refuse(.noHealthyUpstream(target))
    }
    trace.add("endpoint \(workload.workload.uid) at \(address), port \(chosen.port)")
    return direct(
        workload, at: SocketAddress(address, chosen.port), service: service, trace: &trace)
}

private func toWorkload(
    _ workload: WorkloadEntry, target: SocketAddress, from source: WorkloadEntry,
    without failed: Set<String>, snapshot: Snapshot, trace: inout Trace
) -> OutboundPlan {
    if let waypoint = workload.workload.waypoint {
        // A waypoint that calls its own workload must not be sent back to itself.
        if isInstance(source, of: waypoint, snapshot: snapshot) {
            trace.add("the caller is the waypoint of \(workload.workload.uid) itself")
            return direct(workload, at: target, service: nil, isFromWaypoint: true, trace: &trace)
        }
        trace.add("\(workload.workload.uid) is served through waypoint \(waypoint)")
        var randomness = SystemRandomNumberGenerator()
        return toWaypoint(
            waypoint, target: target, service: nil, from: source, without: failed, snapshot: snapshot,
            randomness: &randomness, trace: &trace)
    }
    return direct(workload, at: target, service: nil, trace: &trace)
}

func direct(
    _ workload: WorkloadEntry, at address: SocketAddress, service: ServiceEntry?,
    isFromWaypoint: Bool = false, trace: inout Trace
) -> OutboundPlan {
    guard workload.workload.tunnelProtocol == .hbone else {
        trace.add("\(workload.workload.uid) is not in the mesh: plain TCP")
        return .plain(PlainPlan(address: address, workload: workload, service: service))
    }
    trace.add("\(workload.workload.uid) is in the mesh: HBONE, expecting \(workload.identity)")
    return .tunnel(
        TunnelPlan(
            hop: .workload, address: SocketAddress(address.address, 15_008), authority: address.description,
            application: isFromWaypoint ? nil : address,
            expected: [workload.identity] + (service?.extraIdentities ?? []), workload: workload,
            service: service))
}

private func toWaypoint(
    _ waypoint: GatewayAddress, target: SocketAddress, service: ServiceEntry?, from source: WorkloadEntry,
    without failed: Set<String>, snapshot: Snapshot, randomness: inout some RandomNumberGenerator,
    trace: inout Trace
) -> OutboundPlan {
    // Every way out of here is a tunnel or a refusal: a waypoint that is away must not be walked around.
    guard
        let found = resolve(
            waypoint, from: source, without: failed, family: target.address.isIPv4, snapshot: snapshot,
            randomness: &randomness, trace: &trace)
    else {
        trace.add("waypoint \(waypoint) has no usable endpoint: refused")
        return .refuse(.unknownWaypoint(waypoint.description))
    }
    guard found.workload.workload.network == source.workload.network else {
        return remoteNetwork(found.workload, trace: &trace)
    }
    return .tunnel(
        TunnelPlan(
            hop: .waypoint, address: found.address, authority: target.description,
            application: nil, expected: [found.workload.identity] + (found.service?.extraIdentities ?? []),
            workload: found.workload, service: service))
}

func remoteNetwork(_ workload: WorkloadEntry, trace: inout Trace) -> OutboundPlan {
    trace.add(
        "\(workload.workload.uid) is in network \"\(workload.workload.network)\", which no gateway connects")
    return .refuse(.unknownNetworkGateway(workload.workload.network))
}

/// A waypoint's endpoint: by host name or virtual address one of the service's, by workload address that workload.
private func resolve(
    _ gateway: GatewayAddress, from source: WorkloadEntry, without failed: Set<String>,
    family isIPv4: Bool, snapshot: Snapshot, randomness: inout some RandomNumberGenerator, trace: inout Trace
) -> (workload: WorkloadEntry, service: ServiceEntry?, address: SocketAddress)? {
    let service: ServiceEntry?
    switch gateway.destination {
    case .hostname(let name):
        service = snapshot.service(name)
    case .address(let address):
        if let workload = snapshot.workload(at: address) {
            return (workload, nil, SocketAddress(address.address, gateway.hbonePort))
        }
        service = snapshot.service(at: address, from: source.workload.namespace)
    }
    guard let service,
        let chosen = chooseEndpoint(
            of: service, port: gateway.hbonePort, from: source.workload, without: failed,
            randomness: &randomness, trace: &trace),
        let address = chooseAddress(
            of: chosen.endpoint.workload.workload, family: isIPv4, families: service.service.ipFamilies)
    else { return nil }
    return (chosen.endpoint.workload, service, SocketAddress(address, chosen.port))
}

/// Whether a workload is one of those that a gateway's address means.
func isInstance(_ source: WorkloadEntry, of gateway: GatewayAddress, snapshot: Snapshot) -> Bool {
    switch gateway.destination {
    case .hostname(let name):
        snapshot.service(name)?.endpoints.contains { $0.workload.workload.uid == source.workload.uid }
            ?? false
    case .address(let address):
        source.workload.network == address.network && source.workload.addresses.contains(address.address)
            || snapshot.service(at: address, from: source.workload.namespace)?.endpoints
                .contains { $0.workload.workload.uid == source.workload.uid } ?? false
    }
}

private func weightedWaypoint(
    of service: Service, randomness: inout some RandomNumberGenerator
) -> GatewayAddress? {
    let total = service.weightedWaypoints.reduce(UInt64(0)) { $0 + UInt64($1.weight) }
    guard total > 0 else { return nil }
    var left = UInt64.random(in: 0..<total, using: &randomness)
    for candidate in service.weightedWaypoints {
        if left < UInt64(candidate.weight) { return candidate.destination }
        left -= UInt64(candidate.weight)
    }
    return nil
}
