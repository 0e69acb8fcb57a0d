import Address
import Mesh

/// The ports that are the proxy's own in every captured namespace. Whoever is sent to them by way of a proxy would loop.
public let proxyPorts: Set<UInt16> = [15_001, 15_006, 15_008]

/// What an HBONE server needs to know to let a CONNECT in.
public struct InboundRequest: Sendable {
    /// The CONNECT authority, as it came.
    public var authority: String
    /// From the verified certificate of the tunnel.
    public var peer: Identity
    /// The tunnel's TCP peer.
    public var source: IPAddress
    /// The address of the workload at which the tunnel arrived.
    public var local: IPAddress

    public init(authority: String, peer: Identity, source: IPAddress, local: IPAddress) {
        self.authority = authority
        self.peer = peer
        self.source = source
        self.local = local
    }
}

/// What becomes of an inbound connection.
public enum InboundPlan: Hashable, Sendable {
    /// Dial the application there; `connection` is what policies were asked about, to be asked again when they change.
    case connect(to: SocketAddress, connection: Connection, Verdict.Ground)
    case refuse(CloseReason)
}

/// Decides about a CONNECT that arrived at one of our workloads (ztunnel.md §1.6).
public func inbound(
    _ request: InboundRequest, workload: WorkloadEntry, snapshot: Snapshot, trace: inout Trace
) -> InboundPlan {
    guard let authority = Authority(request.authority) else {
        trace.add("the authority \"\(request.authority)\" is neither address:port nor host:port")
        return .refuse(.invalidAuthority(request.authority))
    }
    let local = request.local.canonical
    let port: UInt16
    switch authority.host {
    case .address(let address):
        // Only our own address is dialled: a server that dials what it is told is an open proxy.
        guard address.canonical == local else {
            trace.add("\(address) is not this workload's address \(local)")
            return .refuse(.destinationMismatch(requested: "\(address)", actual: "\(local)"))
        }
        port = authority.port
    case .name(let hostname):
        guard let service = snapshot.service(hostname: hostname, from: workload.workload.namespace),
            let mapped = targetPort(of: authority.port, in: service, for: workload.workload)
        else {
            trace.add("no port \(authority.port) of \(hostname) leads to this workload")
            return .refuse(.unknownTarget("\(hostname):\(authority.port)"))
        }
        port = mapped
        trace.add("\(hostname):\(authority.port) is port \(mapped) of this workload")
    }
    let destination = SocketAddress(local, port)
    return admit(
        Connection(peer: request.peer, source: request.source.canonical, destination: destination),
        workload: workload, snapshot: snapshot, trace: &trace)
}

/// Decides about a plaintext connection that was captured on its way to one of our workloads (ztunnel.md §1.7).
///
/// - Parameter destination: where it was going before the redirect.
public func inboundPlaintext(
    source: IPAddress, destination: SocketAddress, workload: WorkloadEntry, snapshot: Snapshot,
    trace: inout Trace
) -> InboundPlan {
    let destination = destination.canonical
    guard workload.workload.addresses.contains(destination.address) else {
        trace.add("\(destination.address) is not this workload's address")
        return .refuse(
            .destinationMismatch(
                requested: "\(destination.address)",
                actual: workload.workload.addresses.map(\.description).joined(separator: ",")))
    }
    return admit(
        Connection(peer: nil, source: source.canonical, destination: destination), workload: workload,
        snapshot: snapshot, trace: &trace)
}

/// Decides about a connection whose other end is known already: one of this daemon's own workloads.
public func admit(
    _ connection: Connection, workload: WorkloadEntry, snapshot: Snapshot, trace: inout Trace
) -> InboundPlan {
    guard !proxyPorts.contains(connection.destination.port) else {
        trace.add("port \(connection.destination.port) is the proxy's own")
        return .refuse(.recursiveCall)
    }
    switch authorize(connection, by: snapshot.policySet(for: workload.workload), trace: &trace) {
    case .allowed(let ground):
        return .connect(to: connection.destination, connection: connection, ground)
    case .denied(let reason):
        return .refuse(reason)
    }
}

/// `address:port` or `host:port`, as a CONNECT names its target (RFC 9113 §8.5).
public struct Authority: Hashable, Sendable {
    public enum Host: Hashable, Sendable {
        case address(IPAddress)
        case name(String)
    }

    public let host: Host
    public let port: UInt16

    /// Nil without a port, and for a host that is neither an address nor a plausible DNS name (RFC 1123 §2.1).
    public init?(_ text: String) {
        if let address = SocketAddress(text) {
            guard address.port != 0 else { return nil }
            host = .address(address.address)
            port = address.port
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let port = parsePort(parts[1]), port != 0, isHostName(parts[0]) else {
            return nil
        }
        host = .name(parts[0].lowercased())
        self.port = port
    }
}

private func isHostName(_ text: Substring) -> Bool {
    guard (1...253).contains(text.utf8.count) else { return false }
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    // All digits in the last label would be a malformed address, not a name.
    guard let last = labels.last, last.contains(where: { !$0.isNumber }) else { return false }
    return labels.allSatisfy { label in
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
            && label.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}

/// The application port behind a service port: the workload's own mapping first, then the service's.
func targetPort(of servicePort: UInt16, in service: ServiceEntry, for workload: Workload) -> UInt16? {
    guard let own = workload.services[service.service.key] else { return nil }
    if let port = own[servicePort], port != 0 { return port }
    guard let port = service.service.ports.first(where: { $0.servicePort == servicePort }),
        port.targetPort != 0
    else { return nil }
    return port.targetPort
}
