import Compiler
import Mesh
import Wire

/// Everything that proxies may be sent, at one time. Immutable: it is made on the thread that compiles and read on the
/// loops that serve.
public struct Publication: Sendable {
    public fileprivate(set) var resources = MeshResources()
    public fileprivate(set) var addresses = ResourceCollection()
    public fileprivate(set) var policies = ResourceCollection()
    /// By node.
    public fileprivate(set) var localPods: [String: ResourceCollection] = [:]
    /// By waypoint.
    public fileprivate(set) var waypointServices: [NamespacedName: ResourceCollection] = [:]
    /// The names of the resources behind every other name: addresses, and services with all their workloads.
    private(set) var addressIndex = AddressIndex()

    public init() {}

    /// The resources of a type for a proxy.
    func collection(_ type: ResourceType, for subscriber: Subscriber) -> ResourceCollection {
        switch type {
        case .address: addresses
        case .authorization: policies
        case .localPod: subscriber.node.flatMap { localPods[$0] } ?? ResourceCollection()
        case .waypointService:
            subscriber.waypoint.flatMap { waypointServices[$0] } ?? ResourceCollection()
        }
    }

    /// The names of the resources that an on-demand client gets when it asks for `name`.
    func resolve(_ type: ResourceType, _ name: String, for subscriber: Subscriber) -> [String] {
        type == .address
            ? addressIndex.resolve(name, in: addresses)
            : collection(type, for: subscriber).resources[name] != nil ? [name] : []
    }

    /// Workloads of the client's own node, which an on-demand client gets without asking.
    func localAddresses(of node: String?) -> [String] {
        node.flatMap { addressIndex.byNode[$0] } ?? []
    }

    /// The publication after this one. Resources whose model did not change are not encoded again.
    public func next(_ new: MeshResources) -> Publication {
        var result = self
        result.resources = new
        if new.workloads != resources.workloads || new.services != resources.services {
            result.addresses.replace(with: encodedAddresses(new))
            result.addressIndex = AddressIndex(new)
        }
        if new.policies != resources.policies {
            result.policies.replace(
                with: new.policies.values.map { policy in
                    reused(policies, policy.name.description, resources.policies[policy.name] == policy)
                        ?? PublishedResource(
                            name: policy.name.description, Istio_Security_Authorization(policy))
                })
        }
        for node in Set(resources.localPods.keys).union(new.localPods.keys)
        where new.localPods[node] != resources.localPods[node] {
            // A node that has lost its last pod keeps an empty collection: its proxy has to learn of it.
            result.localPods[node, default: ResourceCollection()].replace(
                with: (new.localPods[node] ?? []).map {
                    PublishedResource(name: $0.uid, Warren_V1_LocalPod($0))
                })
        }
        for waypoint in Set(resources.waypointServices.keys).union(new.waypointServices.keys)
        where new.waypointServices[waypoint] != resources.waypointServices[waypoint] {
            let (old, held) = (resources.waypointServices[waypoint], waypointServices[waypoint])
            // One that has lost its last service keeps an empty collection, as a node does.
            result.waypointServices[waypoint, default: ResourceCollection()].replace(
                with: (new.waypointServices[waypoint] ?? [:]).values.map { service in
                    reused(
                        held ?? ResourceCollection(), service.key.description, old?[service.key] == service)
                        ?? PublishedResource(
                            name: service.key.description, Warren_V1_WaypointService(service))
                })
        }
        return result
    }

    private func encodedAddresses(_ new: MeshResources) -> [PublishedResource] {
        let workloads = new.workloads.values.map { workload in
            reused(addresses, workload.uid, resources.workloads[workload.uid] == workload)
                ?? PublishedResource(workload)
        }
        let services = new.services.values.map { service in
            reused(addresses, service.key.description, resources.services[service.key] == service)
                ?? PublishedResource(service)
        }
        return workloads + services
    }

    private func reused(_ collection: ResourceCollection, _ name: String, _ isSame: Bool)
        -> PublishedResource?
    {
        isSame ? collection.resources[name] : nil
    }
}

extension PublishedResource {
    init(_ workload: Workload) {
        var address = Istio_Workload_Address()
        address.workload = Istio_Workload_Workload(workload)
        // Pods of the host's network share an address, so by address none of them is meant.
        let aliases =
            workload.networkMode == .hostNetwork
            ? []
            : workload.addresses.map { NetworkAddress(network: workload.network, address: $0).description }
        self.init(name: workload.uid, aliases: aliases, address)
    }

    init(_ service: Service) {
        var address = Istio_Workload_Address()
        address.service = Istio_Workload_Service(service)
        let aliases = service.addresses.map { virtual in
            let base = NetworkAddress(network: virtual.network, address: virtual.prefix.address).description
            return virtual.prefix.length == virtual.prefix.address.bitCount
                ? base : "\(base)/\(virtual.prefix.length)"
        }
        self.init(name: service.key.description, aliases: aliases, address)
    }
}

/// Finds the resources behind a name that an on-demand client asks for: a workload's uid or `network/address`, or a
/// service's `namespace/hostname` or `network/address`. A service comes with all its workloads.
struct AddressIndex: Sendable {
    private var workloadByAddress: [String: String] = [:]
    private var serviceByAddress: [String: String] = [:]
    private var workloadsByService: [String: [String]] = [:]
    private(set) var byNode: [String: [String]] = [:]

    init() {}

    init(_ resources: MeshResources) {
        for workload in resources.workloads.values {
            for address in workload.addresses where workload.networkMode == .standard {
                workloadByAddress[NetworkAddress(network: workload.network, address: address).description] =
                    workload.uid
            }
            for service in workload.services.keys {
                workloadsByService[service.description, default: []].append(workload.uid)
            }
            if !workload.node.isEmpty { byNode[workload.node, default: []].append(workload.uid) }
        }
        for service in resources.services.values {
            for virtual in service.addresses where virtual.prefix.length == virtual.prefix.address.bitCount {
                let address = NetworkAddress(network: virtual.network, address: virtual.prefix.address)
                serviceByAddress[address.description] = service.key.description
            }
        }
    }

    func resolve(_ name: String, in collection: ResourceCollection) -> [String] {
        // By address a workload comes first, as at the proxy.
        let target =
            collection.resources[name] != nil ? name : workloadByAddress[name] ?? serviceByAddress[name]
        guard let target else { return [] }
        return [target] + (workloadsByService[target] ?? [])
    }
}
