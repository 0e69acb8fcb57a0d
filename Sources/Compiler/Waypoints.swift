import Address
import Documents
import Manifests
import Mesh

/// Which waypoint a service's or workload's traffic goes through (label `istio.io/use-waypoint`).
struct WaypointIndex {
    /// What a label is for: a waypoint takes traffic to services, to workloads, or both.
    enum Traffic: String { case service, workload }

    enum Binding: Equatable {
        case none
        case bound(GatewayAddress)
        /// It was asked for and cannot be; what is in the way. Explicit: asked for by the object itself.
        case failed(String, isExplicit: Bool)

        var address: GatewayAddress? {
            if case .bound(let address) = self { address } else { nil }
        }
    }

    private static let useLabel = "istio.io/use-waypoint"
    private static let forLabel = "istio.io/waypoint-for"
    private static let meshClasses: Set<String> = ["istio-waypoint", "warren-waypoint"]
    private static let meshControllers: Set<String> = [
        "istio.io/mesh-controller", "warren.dev/waypoint-controller",
    ]

    private let gateways: [NamespacedName: GatewayManifest]
    private let classes: [String: GatewayClassManifest]
    private let namespaces: [String: NamespaceManifest]
    private let network: String

    init(
        _ gateways: [GatewayManifest], _ classes: [GatewayClassManifest],
        _ namespaces: [String: NamespaceManifest], network: String
    ) {
        self.gateways = Dictionary(
            gateways.map { (NamespacedName(namespace: $0.meta.namespace, name: $0.meta.name), $0) }
        ) { first, _ in first }
        self.classes = Dictionary(classes.map { ($0.meta.name, $0) }) { first, _ in first }
        self.namespaces = namespaces
        self.network = network
    }

    /// - Parameter suffix: `-canary` for the second waypoint of a migration.
    func binding(_ meta: ObjectMeta, _ traffic: Traffic, suffix: String = "") -> Binding {
        // A waypoint's own pods and services are never sent through one.
        guard meta.labels["gateway.networking.k8s.io/gateway-name"] == nil else { return .none }
        let label = Self.useLabel + suffix
        var labels = meta.labels
        let isExplicit = labels[label] != nil
        if !isExplicit {
            labels = namespaces[meta.namespace]?.meta.labels ?? [:]
            // A namespace has no canary of its own.
            guard suffix.isEmpty else { return .none }
        }
        guard let name = labels[label], !name.isEmpty, name != "none" else { return .none }
        let key = NamespacedName(namespace: labels["\(label)-namespace"] ?? meta.namespace, name: name)
        func failed(_ reason: String) -> Binding { .failed(reason, isExplicit: isExplicit) }

        guard let gateway = gateways[key], isWaypoint(gateway) else {
            return failed("the waypoint \(key) does not exist")
        }
        let served =
            gateway.meta.labels[Self.forLabel] ?? classes[gateway.className]?.meta.labels[Self.forLabel]
            ?? "service"
        guard served == "all" || served == traffic.rawValue else {
            // Inherited from the namespace it is meant for the other kind of traffic.
            return isExplicit ? failed("the waypoint \(key) takes traffic to \(served)s only") : .none
        }
        guard allows(gateway, meta.namespace) else {
            return failed(
                "the waypoint \(key) does not let namespace \(meta.namespace) attach to it (allowedRoutes)")
        }
        guard let address = address(of: gateway) else {
            return failed("the waypoint \(key) has no address yet")
        }
        return .bound(address)
    }

    /// Primary and canary by weight (annotation `istio.io/use-waypoint-canary-weight`, 0 to 100).
    func weighted(_ meta: ObjectMeta, primary: Binding) -> [Service.WeightedWaypoint] {
        guard let first = primary.address, let second = binding(meta, .service, suffix: "-canary").address,
            first != second,
            let weight = meta.annotations["istio.io/use-waypoint-canary-weight"].flatMap(UInt32.init),
            weight <= 100
        else { return [] }
        return [.init(destination: first, weight: 100 - weight), .init(destination: second, weight: weight)]
    }

    /// How the pods of a waypoint want their traffic (annotation `ambient.istio.io/waypoint-inbound-binding`):
    /// `PROXY`, or `PROXY/port`.
    func applicationTunnel(of pod: PodManifest) -> Workload.ApplicationTunnel? {
        guard let name = pod.meta.labels["gateway.networking.k8s.io/gateway-name"],
            let gateway = gateways[NamespacedName(namespace: pod.meta.namespace, name: name)]
        else { return nil }
        let annotation = "ambient.istio.io/waypoint-inbound-binding"
        let text =
            gateway.meta.annotations[annotation] ?? classes[gateway.className]?.meta.annotations[annotation]
        guard let parts = text?.split(separator: "/", omittingEmptySubsequences: false) else { return nil }
        let port = parts.count == 2 ? parsePort(parts[1]) : 0
        guard let kind = parts.first, parts.count <= 2, let port else { return nil }
        switch kind {
        case "PROXY": return Workload.ApplicationTunnel(kind: .proxy, port: port)
        case "NONE": return Workload.ApplicationTunnel(kind: .none, port: port)
        default: return nil
        }
    }

    private func isWaypoint(_ gateway: GatewayManifest) -> Bool {
        if let known = classes[gateway.className] {
            return Self.meshControllers.contains(known.controllerName)
        }
        return Self.meshClasses.contains(gateway.className)
    }

    /// The listener of tunnels says who may attach.
    private func allows(_ gateway: GatewayManifest, _ namespace: String) -> Bool {
        let listener = gateway.listeners.first { $0.protocolName == "HBONE" && $0.port == 15_008 }
        switch listener?.allowed ?? .same {
        case .same: return gateway.meta.namespace == namespace
        case .all: return true
        case .selected(let selector): return selector.matches(namespaces[namespace]?.meta.labels ?? [:])
        }
    }

    /// A name is preferred over an address, as istiod does; the port is 15008 whatever the listener says.
    private func address(of gateway: GatewayManifest) -> GatewayAddress? {
        if let named = gateway.addresses.first(where: { $0.kind == .hostname }) {
            return GatewayAddress(
                destination: .hostname(NamespacedName(namespace: gateway.meta.namespace, name: named.value)))
        }
        let address = gateway.addresses.lazy.filter { $0.kind == .ip }.compactMap { IPAddress($0.value) }
            .first
        return address.map {
            GatewayAddress(destination: .address(NetworkAddress(network: network, address: $0.canonical)))
        }
    }
}

extension ObjectIndex {
    /// Waypoints that are asked for and not there: what they would enforce is not enforced, which nobody should find out later.
    func waypointWarnings() -> [Problem] {
        let objects =
            services.values.joined().map { ($0.meta, WaypointIndex.Traffic.service) }
            + serviceEntries.map { ($0.meta, .service) } + pods.values.joined().map { ($0.meta, .workload) }
        var reported: Set<String> = []
        return objects.compactMap { meta, traffic in
            guard case .failed(let reason, let isExplicit) = waypoints.binding(meta, traffic) else {
                return nil
            }
            // Said once where the namespace asks for it.
            let position =
                isExplicit ? meta.position : namespaces[meta.namespace]?.meta.position ?? meta.position
            guard reported.insert("\(position) \(reason)").inserted else { return nil }
            return Problem(
                .warning, at: position,
                "\(reason): traffic goes directly to the workloads, and no layer-7 policy is enforced")
        }
    }
}
