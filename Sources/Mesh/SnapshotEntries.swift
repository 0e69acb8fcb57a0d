import Address

/// A workload in a snapshot; a reference, so that decisions pass it on without copying.
public final class WorkloadEntry: Sendable {
    public let workload: Workload
    public let identity: Identity

    init(_ workload: Workload) {
        self.workload = workload
        identity = workload.identity
    }

    /// Which of two claimants of one address is meant: pods before others, HBONE before TCP, then by uid.
    func precedes(_ other: WorkloadEntry) -> Bool {
        func rank(_ workload: Workload) -> Int {
            (workload.uid.contains("//Pod/") ? 2 : 0) + (workload.tunnelProtocol == .hbone ? 1 : 0)
        }
        let mine = rank(workload)
        let theirs = rank(other.workload)
        return mine != theirs ? mine > theirs : workload.uid < other.workload.uid
    }
}

/// One workload's part in a service.
public struct Endpoint: Sendable {
    public let workload: WorkloadEntry
    /// Service port to target port.
    public let ports: [UInt16: UInt16]
}

/// A service with the endpoints that may be chosen: the healthy ones, or all when the service says so.
public final class ServiceEntry: Sendable {
    public let service: Service
    public let endpoints: [Endpoint]
    /// What an endpoint may present besides its own identity; entries that are no SPIFFE identity are left out.
    public let extraIdentities: [Identity]

    init(_ service: Service, endpoints: [Endpoint]) {
        self.service = service
        self.endpoints = endpoints
        extraIdentities = service.subjectAltNames.compactMap(Identity.init(spiffe:))
    }

    public func isVisible(from namespace: String) -> Bool {
        service.visibility == .everywhere || service.namespace == namespace
    }
}

/// The policies that apply to one workload, sorted by what they do; a reference, which workloads share.
public final class PolicySet: Sendable {
    public let deny: PolicyList
    public let allow: PolicyList
    public let dryRun: [Policy]
    /// Policies that the workload names and that have not arrived.
    public let missing: [NamespacedName]

    /// - Parameters:
    ///   - scoped: those that apply by their scope.
    ///   - named: those that the workload names; nil for one that has not arrived.
    public init(scoped: [Policy], named: [(NamespacedName, Policy?)]) {
        var all = scoped
        var missing: [NamespacedName] = []
        for (name, policy) in named {
            guard let policy else {
                missing.append(name)
                continue
            }
            // One that already applies by its scope counts once.
            if policy.scope == .workloadSelector { all.append(policy) }
        }
        deny = PolicyList(all.filter { $0.action == .deny && !$0.isDryRun })
        allow = PolicyList(all.filter { $0.action == .allow && !$0.isDryRun })
        dryRun = all.filter(\.isDryRun)
        self.missing = missing
    }

    public static let none = PolicySet(scoped: [], named: [])
}
