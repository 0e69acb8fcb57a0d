import Address

/// Everything a node knows of the mesh at one moment, indexed for the decision. Immutable: loops read it without a lock
/// and swap it whole.
public final class Snapshot: Sendable {
    /// Grows with every snapshot of one builder.
    public let version: UInt64
    private let contents: SnapshotContents

    init(_ contents: SnapshotContents, version: UInt64) {
        self.contents = contents
        self.version = version
    }

    /// A snapshot that knows nothing: what a node has before its first configuration.
    public static let empty = Snapshot(SnapshotContents(), version: 0)
}

extension Snapshot {
    public func workload(uid: String) -> WorkloadEntry? { contents.workloads[uid] }

    /// The workload at an address; where several claim it, pods go before others and HBONE before plain TCP.
    public func workload(at address: NetworkAddress) -> WorkloadEntry? {
        contents.workloadsByAddress[address]?.first
    }

    /// A workload of this node by its pod's name.
    public func localWorkload(namespace: String, name: String) -> WorkloadEntry? {
        contents.localWorkloads[NamespacedName(namespace: namespace, name: name)]?.first
    }

    public func service(_ key: NamespacedName) -> ServiceEntry? { contents.services[key] }

    /// The service that a client of `namespace` means by an address: exact addresses before ranges, then the client's own
    /// namespace, the longer prefix, and the canonical one (ztunnel's §1.5 order).
    public func service(at address: NetworkAddress, from namespace: String) -> ServiceEntry? {
        if let exact = contents.servicesByAddress[address], let best = Self.best(of: exact, from: namespace) {
            return best
        }
        var best: (service: ServiceEntry, length: Int)?
        for range in contents.servicesByRange
        where range.network == address.network && range.prefix.contains(address.address)
            && range.service.isVisible(from: namespace)
        {
            guard let current = best else {
                best = (range.service, range.prefix.length)
                continue
            }
            let new = rank(range.service, length: range.prefix.length, from: namespace)
            if new > rank(current.service, length: current.length, from: namespace) {
                best = (range.service, range.prefix.length)
            }
        }
        return best?.service
    }

    private func rank(_ entry: ServiceEntry, length: Int, from namespace: String) -> Int {
        (entry.service.namespace == namespace ? 1_024 : 0) + length * 2 + (entry.service.isCanonical ? 1 : 0)
    }

    public func service(hostname: String, from namespace: String) -> ServiceEntry? {
        contents.servicesByHostname[hostname].flatMap { Self.best(of: $0, from: namespace) }
    }

    private static func best(of entries: [ServiceEntry], from namespace: String) -> ServiceEntry? {
        let visible = entries.filter { $0.isVisible(from: namespace) }
        return visible.first { $0.service.namespace == namespace }
            ?? visible.first { $0.service.isCanonical } ?? visible.first
    }

    /// The policies that decide about connections to a workload.
    public func policySet(for workload: Workload) -> PolicySet {
        contents.localPolicySets[workload.uid] ?? contents.policySet(for: workload)
    }

    /// The policies that a workload names, and no others: what a waypoint asks, for those of its namespace and of the mesh are
    /// asked where its connections arrive.
    public func attachedPolicySet(of workload: Workload) -> PolicySet {
        PolicySet(scoped: [], named: workload.authorizationPolicies.map { ($0, contents.policies[$0]) })
    }

    /// For dumps and status pages, in a stable order.
    public var allWorkloads: [Workload] {
        contents.workloads.values.map(\.workload).sorted { $0.uid < $1.uid }
    }
    public var allServices: [ServiceEntry] {
        contents.services.values.sorted { $0.service.key < $1.service.key }
    }
    public var allPolicies: [Policy] { contents.policies.values.sorted { $0.name < $1.name } }
}
