import Address
import Mesh

/// A CONNECT that arrived at a waypoint.
public struct WaypointRequest: Sendable {
    /// The CONNECT authority, as it came: what the client called.
    public var authority: String
    /// From the verified certificate of the tunnel.
    public var peer: Identity
    /// The tunnel's TCP peer.
    public var source: IPAddress

    public init(authority: String, peer: Identity, source: IPAddress) {
        self.authority = authority
        self.peer = peer
        self.source = source
    }
}

/// What a waypoint stands before, and was asked for.
public struct WaypointTarget: Sendable {
    public enum Kind: Sendable {
        case service(ServiceEntry)
        case workload(WorkloadEntry)
    }

    public let kind: Kind
    /// The service's port, or the workload's own.
    public let port: UInt16
    /// The address that was called; nil where it was a name.
    public let address: IPAddress?
    /// What policies were asked about, to be asked again when they change.
    public let connection: Connection
    public let ground: Verdict.Ground

    public var service: ServiceEntry? {
        if case .service(let service) = kind { service } else { nil }
    }

    /// What is spoken on the port, as far as the service says.
    public var appProtocol: Service.AppProtocol {
        service?.service.ports.first { $0.servicePort == port }?.appProtocol ?? .unknown
    }
}

/// What becomes of a CONNECT at a waypoint, before an endpoint is chosen.
public enum WaypointVerdict: Sendable {
    case serve(WaypointTarget)
    case refuse(CloseReason)
}

/// Decides whether a waypoint takes a connection: whether it stands before what is called, and whether the policies that are
/// attached to it let the client in.
///
/// The policies of its namespace and of the mesh are the destination's node's to ask, which sees the waypoint as the client.
///
/// - Parameters:
///   - waypoint: the workload that we are.
///   - policies: those attached to it (`Snapshot.attachedPolicySet`).
public func waypoint(
    _ request: WaypointRequest, at waypoint: WorkloadEntry, policies: PolicySet, snapshot: Snapshot,
    trace: inout Trace
) -> WaypointVerdict {
    guard let authority = Authority(request.authority) else {
        trace.add("the authority \"\(request.authority)\" is neither address:port nor host:port")
        return .refuse(.invalidAuthority(request.authority))
    }
    let kind: WaypointTarget.Kind
    var address: IPAddress?
    switch authority.host {
    case .address(let called):
        address = called.canonical
        let key = NetworkAddress(network: waypoint.workload.network, address: called.canonical)
        // In the order, and with the eyes, of the client's node.
        if let workload = snapshot.workload(at: key) {
            trace.add("\(called) is workload \(workload.workload.uid)")
            kind = .workload(workload)
        } else if let service = snapshot.service(at: key, from: request.peer.namespace) {
            trace.add("\(called) is service \(service.service.key)")
            kind = .service(service)
        } else {
            trace.add("\(called) is unknown to the mesh")
            return .refuse(.notServed(request.authority))
        }
    case .name(let hostname):
        guard let service = snapshot.service(hostname: hostname, from: request.peer.namespace) else {
            trace.add("\(hostname) is no service of the mesh")
            return .refuse(.notServed(request.authority))
        }
        kind = .service(service)
    }
    guard serves(waypoint, kind, snapshot: snapshot) else {
        trace.add("it is not served by this waypoint")
        return .refuse(.notServed(request.authority))
    }
    let destination = address ?? firstAddress(of: kind) ?? .anyIPv4
    let connection = Connection(
        peer: request.peer, source: request.source.canonical,
        destination: SocketAddress(destination, authority.port))
    switch authorize(connection, by: policies, trace: &trace) {
    case .denied(let reason): return .refuse(reason)
    case .allowed(let ground):
        return .serve(
            WaypointTarget(
                kind: kind, port: authority.port, address: address, connection: connection, ground: ground))
    }
}

/// Chooses an endpoint of what a waypoint serves. Whatever waypoint that endpoint has itself is passed over, for we are it.
///
/// - Parameter failed: uids of workloads that this connection has tried in vain.
/// - Returns: never a tunnel to a waypoint.
public func endpoint(
    of target: WaypointTarget, from waypoint: WorkloadEntry, without failed: Set<String> = [],
    snapshot: Snapshot, randomness: inout some RandomNumberGenerator, trace: inout Trace
) -> OutboundPlan {
    let called = SocketAddress(target.address ?? firstAddress(of: target.kind) ?? .anyIPv4, target.port)
    switch target.kind {
    case .workload(let workload):
        return checked(
            direct(workload, at: called, service: nil, isFromWaypoint: true, trace: &trace), waypoint, &trace)
    case .service(let service):
        if service.service.loadBalancing.mode == .passthrough {
            guard let address = target.address else {
                trace.add("the service asks for the original destination, and a name was called")
                return .refuse(.noHealthyUpstream(called))
            }
            trace.add("the service asks for the original destination")
            return checked(
                .plain(
                    PlainPlan(
                        address: SocketAddress(address, target.port), workload: nil, service: service)),
                waypoint, &trace)
        }
        guard
            let chosen = chooseEndpoint(
                of: service, port: target.port, from: waypoint.workload, without: failed,
                randomness: &randomness, trace: &trace)
        else {
            trace.add("no healthy endpoint of \(service.service.key) serves port \(target.port)")
            return .refuse(.noHealthyUpstream(called))
        }
        let workload = chosen.endpoint.workload
        guard workload.workload.network == waypoint.workload.network else {
            return remoteNetwork(workload, trace: &trace)
        }
        guard
            let address = chooseAddress(
                of: workload.workload, family: called.address.isIPv4, families: service.service.ipFamilies)
        else {
            trace.add("\(workload.workload.uid) has no address that the service allows")
            return .refuse(.noHealthyUpstream(called))
        }
        trace.add("endpoint \(workload.workload.uid) at \(address), port \(chosen.port)")
        return checked(
            direct(
                workload, at: SocketAddress(address, chosen.port), service: service, isFromWaypoint: true,
                trace: &trace), waypoint, &trace)
    }
}

/// How a waypoint reaches an endpoint that it has chosen itself.
///
/// - Returns: never a tunnel to a waypoint.
public func way(
    to workload: WorkloadEntry, at address: SocketAddress, of service: ServiceEntry?,
    from waypoint: WorkloadEntry, trace: inout Trace
) -> OutboundPlan {
    checked(
        direct(workload, at: address, service: service, isFromWaypoint: true, trace: &trace), waypoint, &trace
    )
}

/// Whether what is called names this waypoint, by whichever way.
private func serves(
    _ waypoint: WorkloadEntry, _ kind: WaypointTarget.Kind, snapshot: Snapshot
) -> Bool {
    switch kind {
    case .workload(let workload):
        workload.workload.waypoint.map { isInstance(waypoint, of: $0, snapshot: snapshot) } ?? false
    case .service(let service): snapshot.isServed(service, by: waypoint)
    }
}

extension Snapshot {
    /// Whether a service's traffic goes through a waypoint: `waypoint` is one of its pods.
    public func isServed(_ service: ServiceEntry, by waypoint: WorkloadEntry) -> Bool {
        // Either end of a weighted pair may be asked at any weight: a client's node may be a step behind.
        ([service.service.waypoint].compactMap { $0 } + service.service.weightedWaypoints.map(\.destination))
            .contains { isInstance(waypoint, of: $0, snapshot: self) }
    }
}

private func firstAddress(of kind: WaypointTarget.Kind) -> IPAddress? {
    switch kind {
    case .service(let service): service.service.addresses.first?.prefix.address
    case .workload(let workload): workload.workload.addresses.first
    }
}

/// Whatever the configuration says, a waypoint dials neither its own machine nor what only its machine reaches.
private func checked(
    _ plan: OutboundPlan, _ waypoint: WorkloadEntry, _ trace: inout Trace
) -> OutboundPlan {
    let application: SocketAddress
    switch plan {
    case .plain(let plain): application = plain.address
    case .tunnel(let tunnel): application = SocketAddress(tunnel.authority) ?? tunnel.address
    case .sameNode, .refuse: return plan
    }
    let address = application.address.canonical
    if waypoint.workload.addresses.contains(address) || proxyPorts.contains(application.port) {
        trace.add("\(application) is a proxy's own")
        return .refuse(.recursiveCall)
    }
    guard !address.isLoopback, !address.isLinkLocal, !address.isMulticast, !address.isUnspecified else {
        trace.add("\(application) is no address that a waypoint dials")
        return .refuse(.forbiddenDestination("\(application)"))
    }
    return plan
}
