import Address

/// What a snapshot knows. A builder changes it in place; each snapshot has a copy, and copies share what they have in common.
struct SnapshotContents: Sendable {
    /// By uid.
    var workloads = PersistentMap<String, WorkloadEntry>()
    var workloadsByAddress = PersistentMap<NetworkAddress, Claimants>()
    /// Those of this node only.
    var localWorkloads: [NamespacedName: Claimants] = [:]
    var services = PersistentMap<NamespacedName, ServiceEntry>()
    var servicesByAddress = PersistentMap<NetworkAddress, [ServiceEntry]>()
    /// Services whose address is a range, longest prefix first.
    var servicesByRange: [ServiceRange] = []
    var servicesByHostname = PersistentMap<String, [ServiceEntry]>()
    var policies = PersistentMap<NamespacedName, Policy>()
    var globalPolicies: [Policy] = []
    var policiesByNamespace = PersistentMap<String, [Policy]>()
    /// For the workloads of this node, by uid: they are asked for at every connection.
    var localPolicySets: [String: PolicySet] = [:]
}

/// The workloads that go by one address or name: the one that is meant, and those that would be without it.
struct Claimants: Sendable {
    private(set) var first: WorkloadEntry
    /// In order.
    private var others: [WorkloadEntry] = []

    init(_ entry: WorkloadEntry) {
        first = entry
    }

    mutating func insert(_ entry: WorkloadEntry) {
        if entry.precedes(first) {
            others.insert(first, at: 0)
            first = entry
        } else {
            others.insert(entry, at: others.firstIndex { entry.precedes($0) } ?? others.endIndex)
        }
    }

    var all: [WorkloadEntry] { [first] + others }

    /// - Returns: false when nobody is left.
    mutating func remove(_ entry: WorkloadEntry) -> Bool {
        if first !== entry {
            others.removeAll { $0 === entry }
        } else if others.isEmpty {
            return false
        } else {
            first = others.removeFirst()
        }
        return true
    }
}

/// A service and one range of addresses that means it.
struct ServiceRange: Sendable {
    let network: String
    let prefix: Prefix
    let service: ServiceEntry

    func precedes(_ other: ServiceRange) -> Bool {
        prefix.length != other.prefix.length
            ? prefix.length > other.prefix.length : service.service.key < other.service.service.key
    }
}

extension SnapshotContents {
    mutating func insert(_ entry: WorkloadEntry, isLocal: Bool) {
        let workload = entry.workload
        workloads[workload.uid] = entry
        if isLocal {
            Self.add(entry, to: &localWorkloads[workload.qualifiedName])
        }
        for address in workload.claimedAddresses { Self.add(entry, to: &workloadsByAddress[address]) }
    }

    mutating func remove(_ entry: WorkloadEntry, isLocal: Bool) {
        let workload = entry.workload
        workloads[workload.uid] = nil
        if isLocal {
            Self.take(entry, from: &localWorkloads[workload.qualifiedName])
            localPolicySets[workload.uid] = nil
        }
        for address in workload.claimedAddresses { Self.take(entry, from: &workloadsByAddress[address]) }
    }

    private static func add(_ entry: WorkloadEntry, to claimants: inout Claimants?) {
        if claimants == nil { claimants = Claimants(entry) } else { claimants?.insert(entry) }
    }

    private static func take(_ entry: WorkloadEntry, from claimants: inout Claimants?) {
        if claimants?.remove(entry) == false { claimants = nil }
    }

    mutating func insert(_ entry: ServiceEntry) {
        let service = entry.service
        services[service.key] = entry
        Self.add(entry, to: &servicesByHostname[service.hostname])
        for address in service.addresses {
            if let single = address.single {
                Self.add(entry, to: &servicesByAddress[single])
            } else {
                let range = ServiceRange(network: address.network, prefix: address.prefix, service: entry)
                servicesByRange.insert(
                    range, at: servicesByRange.firstIndex { range.precedes($0) } ?? servicesByRange.endIndex)
            }
        }
    }

    mutating func remove(_ entry: ServiceEntry) {
        let service = entry.service
        services[service.key] = nil
        Self.take(entry, from: &servicesByHostname[service.hostname])
        for address in service.addresses {
            if let single = address.single {
                Self.take(entry, from: &servicesByAddress[single])
            } else {
                servicesByRange.removeAll { $0.service === entry }
            }
        }
    }

    private static func add(_ entry: ServiceEntry, to entries: inout [ServiceEntry]?) {
        var all = entries ?? []
        all.insert(entry, at: all.firstIndex { entry.service.key < $0.service.key } ?? all.endIndex)
        entries = all
    }

    private static func take(_ entry: ServiceEntry, from entries: inout [ServiceEntry]?) {
        let left = (entries ?? []).filter { $0 !== entry }
        entries = left.isEmpty ? nil : left
    }
}

extension SnapshotContents {
    /// Everything of the global scope, of the workload's namespace, and what it names.
    func policySet(for workload: Workload) -> PolicySet {
        PolicySet(
            scoped: globalPolicies + (policiesByNamespace[workload.namespace] ?? []),
            named: workload.authorizationPolicies.map { ($0, policies[$0]) })
    }
}

extension Workload {
    /// By which it is found: none of a workload in its host's network, where others are too. Each once.
    fileprivate var claimedAddresses: [NetworkAddress] {
        guard networkMode == .standard else { return [] }
        let claimed = addresses.map { NetworkAddress(network: network, address: $0) }
        return claimed.count < 2 ? claimed : Array(Set(claimed))
    }
}

extension Service.VirtualAddress {
    /// Nil for a range.
    fileprivate var single: NetworkAddress? {
        prefix.length == prefix.address.bitCount
            ? NetworkAddress(network: network, address: prefix.address) : nil
    }
}
