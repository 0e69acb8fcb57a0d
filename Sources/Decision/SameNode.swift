import Address
import Mesh

/// The pods whose network namespaces a daemon holds: those that it can join to each other without a tunnel.
public struct HeldPods: Sendable {
    private var pods: [NamespacedName: LocalPod] = [:]
    /// The node's own settings ask for a tunnel between any two workloads.
    public var alwaysEncrypts: Bool

    public init(_ pods: [LocalPod] = [], alwaysEncrypts: Bool = false) {
        self.alwaysEncrypts = alwaysEncrypts
        for pod in pods { insert(pod) }
    }

    /// Takes the place of another pod of that name: it was made anew.
    public mutating func insert(_ pod: LocalPod) { pods[pod.qualifiedName] = pod }

    public mutating func remove(_ pod: LocalPod) {
        if pods[pod.qualifiedName]?.uid == pod.uid { pods[pod.qualifiedName] = nil }
    }

    /// The pod that is this workload. By its name, node and account, as a captured pod finds its workload, and never by an
    /// address.
    public func pod(of workload: WorkloadEntry, _ snapshot: Snapshot) -> LocalPod? {
        let name = workload.workload.qualifiedName
        guard let pod = pods[name], pod.serviceAccount == workload.workload.serviceAccount,
            snapshot.localWorkload(namespace: name.namespace, name: name.name) === workload
        else { return nil }
        return pod
    }
}

/// A connection between two workloads of this daemon.
public struct SameNodePlan: Sendable {
    /// Where the destination's application listens.
    public let address: SocketAddress
    /// Whom the destination sees, as it would through a tunnel: an address of the source's pod, of the destination's family.
    public let source: IPAddress
    public let workload: WorkloadEntry
    /// The service that was asked for, if one was.
    public let service: ServiceEntry?
}

/// Whether two workloads can be joined without a tunnel, and how.
///
/// Whatever is in doubt takes the tunnel, whose handshake finds out. An address counts only if it is one that the pod's
/// namespace was found to hold: what is dialled in a namespace that has lost it would leave in the clear.
///
/// - Parameter client: the source address of the connection, which a pod may have chosen at will.
func sameNode(
    from source: WorkloadEntry, at client: IPAddress?, to workload: WorkloadEntry, at address: SocketAddress,
    service: ServiceEntry?, held: HeldPods, snapshot: Snapshot, trace: inout Trace
) -> SameNodePlan? {
    guard let target = held.pod(of: workload, snapshot), let origin = held.pod(of: source, snapshot) else {
        return nil
    }
    func declined(_ reason: String) -> SameNodePlan? {
        trace.add("both are workloads of this node, but \(reason)")
        return nil
    }
    if held.alwaysEncrypts { return declined("the node asks for encryption between them") }
    if let side = first(of: source, workload, where: { $0.encryptsOnSameNode }) {
        return declined("\(side.uid) asks for encryption (warren.dev/same-node)")
    }
    // The pods of waypoints and gateways are of this kind.
    if let side = first(of: source, workload, where: { $0.nativeTunnel || $0.applicationTunnel != nil }) {
        return declined("\(side.uid) speaks HBONE or PROXY by itself")
    }
    guard source.identity.trustDomain == workload.identity.trustDomain else {
        return declined("they are of different trust domains")
    }
    guard target.addresses.contains(address.address) else {
        return declined("\(address.address) is no address of the captured pod")
    }
    let isIPv4 = address.address.isIPv4
    guard
        let sender = origin.addresses.first(where: { $0 == client && $0.isIPv4 == isIPv4 })
            ?? origin.addresses.first(where: { $0.isIPv4 == isIPv4 })
    else { return declined("the source has no address of that family") }
    // Anybody else's answer would never find back to us, for we come from another pod's address. A pod that calls itself
    // comes from its own, and must be seen to hold it now.
    guard sender != address.address || client == sender else {
        return declined("it calls itself, from an address that is not its own")
    }
    trace.add("both are workloads of this node: joined without a tunnel, from \(sender)")
    return SameNodePlan(address: address, source: sender, workload: workload, service: service)
}

private func first(
    of source: WorkloadEntry, _ destination: WorkloadEntry, where isMeant: (Workload) -> Bool
) -> Workload? {
    isMeant(source.workload) ? source.workload : isMeant(destination.workload) ? destination.workload : nil
}
