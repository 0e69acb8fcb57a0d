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

    /// Says of which Gateway a Pod is a replica, or a Service the front.
    static let gatewayLabel = "gateway.networking.k8s.io/gateway-name"
    static let tunnelPort: UInt16 = 15_008

    private let gateways: [NamespacedName: GatewayManifest]
    private let classes: [String: GatewayClassManifest]
    private let namespaces: [String: NamespaceManifest]
    private let network: String
    private let clusterDomain: String
    /// The pods that run a waypoint, by its name.
    private var replicas: [NamespacedName: [PodManifest]] = [:]
    /// Waypoints that have a Service of their name.
    private var fronted: Set<NamespacedName> = []

    init() { self.init([], [], [:], pods: [:], services: [:], network: "", clusterDomain: "") }

    init(
        _ gateways: [GatewayManifest], _ classes: [GatewayClassManifest],
        _ namespaces: [String: NamespaceManifest], pods: [String: [PodManifest]],
        services: [String: [ServiceManifest]], network: String, clusterDomain: String
    ) {
        self.gateways = Dictionary(
            gateways.map { (NamespacedName(namespace: $0.meta.namespace, name: $0.meta.name), $0) }
        ) { first, _ in first }
        self.classes = Dictionary(classes.map { ($0.meta.name, $0) }) { first, _ in first }
        self.namespaces = namespaces
        self.network = network
        self.clusterDomain = clusterDomain
        for pod in pods.values.joined() where !pod.isTerminal && !pod.usesHostNetwork {
            if let name = waypoint(of: pod) { replicas[name, default: []].append(pod) }
        }
        for service in services.values.joined() where service.type != .externalName {
            let name = NamespacedName(namespace: service.meta.namespace, name: service.meta.name)
            if self.gateways[name].map(isWaypoint) ?? false { fronted.insert(name) }
        }
    }

    /// The waypoint that a pod runs, or nil.
    func waypoint(of pod: PodManifest) -> NamespacedName? {
        guard let name = pod.meta.labels[Self.gatewayLabel] else { return nil }
        let key = NamespacedName(namespace: pod.meta.namespace, name: name)
        return gateways[key].map(isWaypoint) == true ? key : nil
    }

    /// The waypoints there are, and where each runs.
    var all: [NamespacedName: [PodManifest]] {
        gateways.filter { isWaypoint($0.value) }.reduce(into: [:]) { result, entry in
            result[entry.key] = replicas[entry.key] ?? []
        }
    }

    /// - Parameter suffix: `-canary` for the second waypoint of a migration.
    func binding(_ meta: ObjectMeta, _ traffic: Traffic, suffix: String = "") -> Binding {
        // A waypoint's own pods and services are never sent through one.
        guard meta.labels[Self.gatewayLabel] == nil,
            !fronted.contains(NamespacedName(namespace: meta.namespace, name: meta.name))
                || traffic != .service
        else { return .none }
        guard let (key, isExplicit) = wish(meta, suffix: suffix) else { return .none }
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

    /// The waypoint that an object's labels name, or else its namespace's, and whether it was the object itself.
    private func wish(_ meta: ObjectMeta, suffix: String) -> (key: NamespacedName, isExplicit: Bool)? {
        let label = Self.useLabel + suffix
        var labels = meta.labels
        let isExplicit = labels[label] != nil
        if !isExplicit {
            labels = namespaces[meta.namespace]?.meta.labels ?? [:]
            // A namespace has no canary of its own.
            guard suffix.isEmpty else { return nil }
        }
        guard let name = labels[label], !name.isEmpty, name != "none" else { return nil }
        return (
            NamespacedName(namespace: labels["\(label)-namespace"] ?? meta.namespace, name: name), isExplicit
        )
    }

    /// The waypoints that take the traffic to a service: its own, and the canary where it has one.
    func serving(_ meta: ObjectMeta) -> [NamespacedName] {
        ["", "-canary"].compactMap { suffix in
            binding(meta, .service, suffix: suffix).address == nil
                ? nil : wish(meta, suffix: suffix)?.key
        }
    }

    /// The waypoints that all traffic to an object is meant to take: none of them where those that were asked for cannot take it,
    /// and nil where nobody asks for one.
    func meant(_ meta: ObjectMeta, _ traffic: Traffic) -> [NamespacedName]? {
        switch binding(meta, traffic) {
        case .none: nil
        case .failed: []
        case .bound: traffic == .service ? serving(meta) : wish(meta, suffix: "").map { [$0.key] }
        }
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

    /// The waypoints that a policy is for: Gateways of its own namespace, or, of the root namespace, all of a class.
    func targets(of policy: AuthorizationPolicy, rootNamespace: String) -> [NamespacedName] {
        policy.targets.flatMap { target -> [NamespacedName] in
            switch target.kind {
            case "Gateway":
                let key = NamespacedName(namespace: policy.meta.namespace, name: target.name)
                return gateways[key].map(isWaypoint) == true ? [key] : []
            case "GatewayClass" where policy.meta.namespace == rootNamespace:
                return gateways.filter { $0.value.className == target.name && isWaypoint($0.value) }.map(
                    \.key)
            default: return []
            }
        }
    }

    /// How the pods of a waypoint want their traffic (annotation `ambient.istio.io/waypoint-inbound-binding`):
    /// `PROXY`, or `PROXY/port`.
    func applicationTunnel(of pod: PodManifest) -> Workload.ApplicationTunnel? {
        guard let name = pod.meta.labels[Self.gatewayLabel],
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
        let listener = gateway.listeners.first { $0.protocolName == "HBONE" && $0.port == Self.tunnelPort }
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
        if let address {
            return GatewayAddress(
                destination: .address(NetworkAddress(network: network, address: address.canonical)))
        }
        // Nobody gave it an address: then it is reached by its Service, and where it has none by its pods.
        let name = NamespacedName(namespace: gateway.meta.namespace, name: gateway.meta.name)
        guard fronted.contains(name) || replicas[name] != nil else { return nil }
        return GatewayAddress(destination: .hostname(serviceKey(of: name)))
    }

    private func serviceKey(of waypoint: NamespacedName) -> NamespacedName {
        NamespacedName(
            namespace: waypoint.namespace,
            name: "\(waypoint.name).\(waypoint.namespace).svc.\(clusterDomain)")
    }

    /// Services for waypoints that have pods and nothing before them: by these their replicas are found.
    var impliedServices: [Service] {
        replicas.keys.filter { !fronted.contains($0) }.map { name in
            let key = serviceKey(of: name)
            return Service(
                name: name.name, namespace: name.namespace, hostname: key.name,
                ports: [.init(servicePort: Self.tunnelPort, targetPort: Self.tunnelPort, appProtocol: .tcp)],
                isCanonical: true)
        }
    }

    /// What a waypoint's pod serves of them.
    func impliedServices(of pod: PodManifest) -> [NamespacedName: [UInt16: UInt16]] {
        guard let name = waypoint(of: pod), !fronted.contains(name) else { return [:] }
        return [serviceKey(of: name): [Self.tunnelPort: Self.tunnelPort]]
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

extension ObjectIndex {
    /// The waypoints there are.
    func waypointDeclarations() -> [NamespacedName: WaypointDeclaration] {
        waypoints.all.mapValues { pods in
            var declaration = WaypointDeclaration()
            for pod in pods {
                let annotation = pod.meta.annotations["warren.dev/netns"] ?? ""
                declaration.replicas.append(
                    .init(
                        name: pod.meta.name, node: pod.nodeName,
                        networkNamespace: annotation.isEmpty ? nil : annotation))
                guard capturedPod(sharingAccountOf: pod) == nil else { continue }
                declaration.identities.insert(
                    Identity(
                        trustDomain: environment.trustDomain, namespace: pod.meta.namespace,
                        serviceAccount: pod.serviceAccountName))
            }
            declaration.replicas.sort { $0.name < $1.name }
            return declaration
        }
    }

    private func capturedPod(sharingAccountOf replica: PodManifest) -> PodManifest? {
        pods[replica.meta.namespace]?.first {
            $0.serviceAccountName == replica.serviceAccountName && !$0.isTerminal && isEnrolled($0)
        }
    }

    /// Waypoints that cannot do what they are there for.
    func waypointPodWarnings() -> [Problem] {
        var result: [Problem] = []
        for (name, replicas) in waypoints.all {
            for pod in replicas {
                func warn(_ message: String) {
                    result.append(
                        Problem(
                            .warning, at: pod.meta.position,
                            "Pod \(pod.meta.namespace)/\(pod.meta.name) \(message)"))
                }
                if let other = capturedPod(sharingAccountOf: pod) {
                    warn(
                        "of the waypoint \(name) has the service account \(pod.serviceAccountName), which the captured Pod \(other.meta.namespace)/\(other.meta.name) has too: the waypoint gets no certificate; give it an account of its own"
                    )
                }
                if pod.addresses.isEmpty {
                    warn("of the waypoint \(name) has no address yet and cannot be reached")
                }
            }
            for service in services[name.namespace] ?? []
            where service.meta.name == name.name && service.type != .externalName
                && !service.tcpPorts.contains(where: { $0.port == WaypointIndex.tunnelPort })
            {
                result.append(
                    Problem(
                        .warning, at: service.meta.position,
                        "Service \(name) is that of the waypoint and has no port \(WaypointIndex.tunnelPort): nobody reaches it"
                    ))
            }
        }
        return result
    }
}
