import Mesh
import Protobuf
import Routing
import Wire

/// Everything that the control component has said to this node, and which version of it.
public struct DiscoveredState: Sendable {
    /// How many resources of one type a node holds; what goes beyond is refused. Five times the largest mesh that ztunnel
    /// is sized for.
    public static let resourceLimit = 1_000_000

    private var mesh: SnapshotBuilder
    private var pods: [String: LocalPod] = [:]
    /// What a waypoint runs on, by service. One whose latest version was refused is there as it was before, or not at all: nothing
    /// is routed then, for a guess could lead requests where nobody wants them.
    public private(set) var waypointServices: [NamespacedName: CompiledWaypointService] = [:]
    /// By type and name. Empty for a resource that was refused and must be sent again.
    private(set) var versions: [ResourceType: [String: String]] = [:]

    public init(node: String) {
        mesh = SnapshotBuilder(node: node)
    }

    public var node: String { mesh.node }

    /// A snapshot of it; each has a higher version than the one before.
    public mutating func snapshot() -> Snapshot { mesh.snapshot() }

    /// By namespace and name.
    public var localPods: [LocalPod] {
        pods.values.sorted { ($0.namespace, $0.name, $0.uid) < ($1.namespace, $1.name, $1.uid) }
    }

    public func count(_ type: ResourceType) -> Int { versions[type]?.count ?? 0 }

    /// Takes over a resource.
    ///
    /// - Throws: when it is refused. An earlier version of it then stays; where there is none, a policy is replaced by one
    ///   that closes what it was to decide about.
    mutating func apply(
        _ type: ResourceType, _ resource: Envoy_Service_Discovery_V3_Resource
    ) throws(WireError) {
        let name = resource.name
        guard !name.isEmpty else { throw WireError("name", "missing") }
        let held = versions[type]?[name]
        guard held != nil || count(type) < Self.resourceLimit else {
            throw WireError("", "more than \(Self.resourceLimit) resources")
        }
        let isKnown = held.map { !$0.isEmpty } ?? false
        do throws(WireError) {
            switch type {
            case .addresses: try applyAddress(resource)
            case .policies: try applyPolicy(resource, isKnown: isKnown)
            case .localPods:
                let pod = try LocalPod(Warren_V1_LocalPod(unpackingAny: resource.resource))
                try expect(name, is: pod.uid)
                pods[name] = pod
            case .waypointServices: try applyWaypointService(resource)
            }
        } catch {
            // Named to the server at the next connection with a version it cannot have: it is sent again, or removed.
            if !isKnown { versions[type, default: [:]][name] = "" }
            throw error
        }
        versions[type, default: [:]][name] = resource.version
    }

    private mutating func applyAddress(
        _ resource: Envoy_Service_Discovery_V3_Resource
    ) throws(WireError) {
        switch try Istio_Workload_Address(unpackingAny: resource.resource).type {
        case .workload(let wire):
            let workload = try Workload(wire)
            try expect(resource.name, is: workload.uid)
            mesh.insert(workload)
        case .service(let wire):
            let service = try Service(wire)
            try expect(resource.name, is: service.key.description)
            mesh.insert(service)
        case nil:
            throw WireError("type", "neither workload nor service")
        }
    }

    private mutating func applyPolicy(
        _ resource: Envoy_Service_Discovery_V3_Resource, isKnown: Bool
    ) throws(WireError) {
        let wire = try Istio_Security_Authorization(unpackingAny: resource.resource)
        try expect(resource.name, is: "\(wire.namespace)/\(wire.name)")
        do throws(WireError) {
            mesh.insert(try Policy(wire))
        } catch {
            if !isKnown, let closed = Policy(closing: wire) { mesh.insert(closed) }
            throw error
        }
    }

    private mutating func applyWaypointService(
        _ resource: Envoy_Service_Discovery_V3_Resource
    ) throws(WireError) {
        let service = try WaypointService(Warren_V1_WaypointService(unpackingAny: resource.resource))
        try expect(resource.name, is: service.key.description)
        do throws(RoutingTableError) {
            waypointServices[service.key] = try CompiledWaypointService(service)
        } catch { throw WireError("", "\(error)") }
    }

    /// Removals go by the resource's name, so it must be the one that the contents are known by.
    private func expect(_ name: String, is key: String) throws(WireError) {
        guard name == key else { throw WireError("name", "the resource is \(key)") }
    }

    /// Forgets a resource; an unknown one is no error.
    mutating func remove(_ type: ResourceType, _ name: String) {
        versions[type]?[name] = nil
        switch type {
        case .addresses: mesh.removeAddress(name)
        case .policies: if let key = NamespacedName(name) { mesh.removePolicy(key) }
        case .localPods: pods[name] = nil
        case .waypointServices: if let key = NamespacedName(name) { waypointServices[key] = nil }
        }
    }

    // MARK: Saving

    /// The resources as they go to the wire, with the versions that they came with.
    func saved() -> [Warren_V1_SavedState.Resources] {
        func resources(
            _ type: ResourceType, _ contents: [(name: String, message: Google_Protobuf_Any)]
        ) -> Warren_V1_SavedState.Resources {
            var saved = Warren_V1_SavedState.Resources()
            saved.typeURL = type.typeURL
            saved.resources = contents.map { name, message in
                var resource = Envoy_Service_Discovery_V3_Resource()
                resource.name = name
                resource.version = versions[type]?[name] ?? ""
                resource.resource = message
                return resource
            }
            return saved
        }

        let workloads = mesh.workloads.map { workload in
            var address = Istio_Workload_Address()
            address.workload = Istio_Workload_Workload(workload)
            return (workload.uid, Google_Protobuf_Any(message: address))
        }
        let services = mesh.services.map { service in
            var address = Istio_Workload_Address()
            address.service = Istio_Workload_Service(service)
            return (service.key.description, Google_Protobuf_Any(message: address))
        }
        let policies = mesh.policies.map { policy in
            (policy.name.description, Google_Protobuf_Any(message: Istio_Security_Authorization(policy)))
        }
        let localPods = pods.map { uid, pod in (uid, Google_Protobuf_Any(message: Warren_V1_LocalPod(pod))) }
        let waypointServices = waypointServices.map { key, compiled in
            (key.description, Google_Protobuf_Any(message: Warren_V1_WaypointService(compiled.service)))
        }
        let all = [
            resources(.addresses, workloads + services), resources(.policies, policies),
            resources(.localPods, localPods),
        ]
        // A node has none, and an older version of it does not know the type.
        return waypointServices.isEmpty ? all : all + [resources(.waypointServices, waypointServices)]
    }

    /// - Throws: for any resource that cannot be taken back: half a mesh is worse than waiting for the whole.
    init(node: String, saved: [Warren_V1_SavedState.Resources]) throws(WireError) {
        self.init(node: node)
        for list in saved {
            guard let type = ResourceType(typeURL: list.typeURL) else {
                throw WireError("type_url", "\"\(list.typeURL)\" is not known")
            }
            for resource in list.resources { try apply(type, resource) }
        }
    }
}
