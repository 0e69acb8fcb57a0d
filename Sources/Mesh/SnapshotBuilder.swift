/// Collects what configuration says, a change at a time, and freezes it into snapshots.
///
/// What a snapshot costs is a matter of what has changed since the one before, not of how much there is: the contents are kept
/// up to date, and only lists that a change concerns are made anew (`Tests/gates/budgets.json` has the figures).
public struct SnapshotBuilder: Sendable {
    /// Workloads of this node are indexed by pod name; empty for a view without a node.
    public let node: String
    private var contents = SnapshotContents()
    private var version: UInt64 = 0
    /// Who says to be an endpoint of a service, by uid, whether there is such a service or not.
    private var members: [NamespacedName: [String: WorkloadEntry]] = [:]

    /// Those of this node's workloads, since policies have last changed.
    private var policySets: [PolicyClaim: PolicySet] = [:]

    // What has changed since the last snapshot.
    /// Members by uid.
    private var changedMembers: [NamespacedName: Set<String>] = [:]
    private var changedServices: Set<NamespacedName> = []
    private var changedPolicies: [PolicyList: Set<NamespacedName>] = [:]
    private var changedLocalWorkloads: Set<String> = []

    /// The policies that apply to the same workloads.
    private enum PolicyList: Hashable {
        case global
        case namespace(String)
        /// Those that name it.
        case selected

        init(of policy: Policy) {
            switch policy.scope {
            case .global: self = .global
            case .namespace: self = .namespace(policy.name.namespace)
            case .workloadSelector: self = .selected
            }
        }
    }

    /// What decides which policies apply to a workload.
    private struct PolicyClaim: Hashable {
        let namespace: String
        let names: [NamespacedName]

        init(_ workload: Workload) {
            namespace = workload.namespace
            names = workload.authorizationPolicies
        }
    }

    public init(node: String) {
        self.node = node
    }

    public var workloads: [Workload] { contents.workloads.values.map(\.workload) }
    public var services: [Service] { contents.services.values.map(\.service) }
    public var policies: [Policy] { contents.policies.values }

    public mutating func insert(_ workload: Workload) {
        if let old = contents.workloads[workload.uid] { remove(old) }
        let entry = WorkloadEntry(workload)
        contents.insert(entry, isLocal: isLocal(workload))
        if isLocal(workload) { changedLocalWorkloads.insert(workload.uid) }
        for service in workload.services.keys {
            members[service, default: [:]][workload.uid] = entry
            changedMembers[service, default: []].insert(workload.uid)
        }
    }

    public mutating func insert(_ service: Service) {
        if let old = contents.services[service.key] { contents.remove(old) }
        contents.insert(ServiceEntry(service, endpoints: []))
        changedServices.insert(service.key)
    }

    public mutating func insert(_ policy: Policy) {
        removePolicy(policy.name)
        contents.policies[policy.name] = policy
        changedPolicies[PolicyList(of: policy), default: []].insert(policy.name)
    }

    /// Removes by the name that xDS uses: a workload's uid, or a service's `namespace/hostname`. An unknown one is no error.
    public mutating func removeAddress(_ name: String) {
        if let workload = contents.workloads[name] {
            remove(workload)
        } else if let key = NamespacedName(name), let service = contents.services[key] {
            contents.remove(service)
        }
    }

    public mutating func removePolicy(_ name: NamespacedName) {
        guard let policy = contents.policies[name] else { return }
        contents.policies[name] = nil
        changedPolicies[PolicyList(of: policy), default: []].insert(name)
    }

    /// The state as of now.
    public mutating func snapshot() -> Snapshot {
        renewServices()
        renewPolicies()
        version += 1
        return Snapshot(contents, version: version)
    }

    // MARK: Inside

    private func isLocal(_ workload: Workload) -> Bool { !node.isEmpty && workload.node == node }

    private mutating func remove(_ entry: WorkloadEntry) {
        let workload = entry.workload
        contents.remove(entry, isLocal: isLocal(workload))
        changedLocalWorkloads.remove(workload.uid)
        for service in workload.services.keys {
            members[service]?[workload.uid] = nil
            if members[service]?.isEmpty == true { members[service] = nil }
            changedMembers[service, default: []].insert(workload.uid)
        }
    }

    private mutating func renewServices() {
        for key in changedServices {
            // Which of its members count may have changed: all are looked at.
            changedMembers[key] = Set(members[key, default: [:]].keys)
        }
        for (key, changed) in changedMembers {
            guard let entry = contents.services[key] else { continue }
            let service = entry.service
            let new = changed.compactMap { uid -> Endpoint? in
                guard let member = members[key]?[uid], let ports = member.workload.services[key],
                    member.workload.status == .healthy || service.loadBalancing.allowsUnhealthy
                else { return nil }
                return Endpoint(workload: member, ports: ports)
            }
            let endpoints = renewed(entry.endpoints, new, changed: changed, by: \.workload.workload.uid)
            contents.remove(entry)
            contents.insert(ServiceEntry(service, endpoints: endpoints))
        }
        changedServices = []
        changedMembers = [:]
    }

    private mutating func renewPolicies() {
        var stale = changedLocalWorkloads
        for (list, names) in changedPolicies {
            let new = names.compactMap { contents.policies[$0] }.filter { PolicyList(of: $0) == list }
            switch list {
            case .global:
                contents.globalPolicies = renewed(contents.globalPolicies, new, changed: names, by: \.name)
            case .namespace(let namespace):
                let policies = renewed(
                    contents.policiesByNamespace[namespace] ?? [], new, changed: names, by: \.name)
                contents.policiesByNamespace[namespace] = policies.isEmpty ? nil : policies
            case .selected:
                break
            }
        }
        if !changedPolicies.isEmpty {
            for claimants in contents.localWorkloads.values {
                for entry in claimants.all where isConcerned(entry.workload) {
                    stale.insert(entry.workload.uid)
                }
            }
        }
        // Most workloads of a namespace name the same policies, or none, and share a set.
        if !changedPolicies.isEmpty || policySets.count > contents.localPolicySets.count + stale.count {
            policySets.removeAll()
        }
        for uid in stale {
            guard let workload = contents.workloads[uid]?.workload else { continue }
            let claim = PolicyClaim(workload)
            let set = policySets[claim] ?? contents.policySet(for: workload)
            policySets[claim] = set
            contents.localPolicySets[uid] = set
        }
        changedPolicies = [:]
        changedLocalWorkloads = []
    }

    /// Whether a policy that has changed may apply to a workload. A name may also be that of a policy of another scope.
    private func isConcerned(_ workload: Workload) -> Bool {
        changedPolicies[.global] != nil || changedPolicies[.namespace(workload.namespace)] != nil
            || workload.authorizationPolicies.contains { name in
                changedPolicies.values.contains { $0.contains(name) }
            }
    }
}

/// A list in the order of a key, with those elements that have changed taken out and the new ones put in: no more than one look at
/// each of the others.
private func renewed<Element, Key: Hashable & Comparable>(
    _ old: [Element], _ new: [Element], changed: Set<Key>, by key: (Element) -> Key
) -> [Element] {
    let new = new.sorted { key($0) < key($1) }
    guard !old.isEmpty else { return new }
    var result: [Element] = []
    result.reserveCapacity(old.count + new.count)
    var next = new.startIndex
    for element in old {
        let place = key(element)
        while next < new.endIndex, key(new[next]) < place {
            result.append(new[next])
            next += 1
        }
        if !changed.contains(place) { result.append(element) }
    }
    return result + new[next...]
}
