import Documents
import Manifests
import Mesh

/// The objects by kind and namespace, in the order of their names.
struct ObjectIndex {
    let environment: Environment
    private(set) var namespaces: [String: NamespaceManifest] = [:]
    private(set) var nodes: [String: NodeManifest] = [:]
    private(set) var pods: [String: [PodManifest]] = [:]
    private(set) var services: [String: [ServiceManifest]] = [:]
    private(set) var deployments: [String: [DeploymentManifest]] = [:]
    private(set) var slices: [EndpointSliceManifest] = []
    private(set) var peerAuthentications: [PeerAuthentication] = []
    private(set) var authorizationPolicies: [AuthorizationPolicy] = []
    private(set) var serviceEntries: [ServiceEntryManifest] = []
    private(set) var workloadEntries: [WorkloadEntryManifest] = []
    private(set) var virtualServices: [VirtualService] = []
    private(set) var destinationRules: [DestinationRule] = []
    /// Of the Gateway API.
    private(set) var gatewayRoutes: [Manifest] = []
    private(set) var referenceGrants: [ReferenceGrant] = []
    private(set) var waypoints = WaypointIndex()

    init(_ store: ObjectStore, _ environment: Environment) {
        self.environment = environment
        var gateways: [GatewayManifest] = []
        var classes: [GatewayClassManifest] = []
        for (_, manifest) in store.objects.sorted(by: { $0.key < $1.key }) {
            let namespace = manifest.meta.namespace
            switch manifest {
            case .namespace(let object): namespaces[object.meta.name] = object
            case .node(let object): nodes[object.meta.name] = object
            case .pod(let object): pods[namespace, default: []].append(object)
            case .service(let object): services[namespace, default: []].append(object)
            case .deployment(let object): deployments[namespace, default: []].append(object)
            case .endpointSlice(let object): slices.append(object)
            case .peerAuthentication(let object): peerAuthentications.append(object)
            case .authorizationPolicy(let object): authorizationPolicies.append(object)
            case .serviceEntry(let object): serviceEntries.append(object)
            case .workloadEntry(let object): workloadEntries.append(object)
            case .gateway(let object): gateways.append(object)
            case .gatewayClass(let object): classes.append(object)
            case .virtualService(let object): virtualServices.append(object)
            case .destinationRule(let object): destinationRules.append(object)
            case .httpRoute, .grpcRoute, .tcpRoute, .tlsRoute: gatewayRoutes.append(manifest)
            case .referenceGrant(let object): referenceGrants.append(object)
            case .serviceAccount, .secret, .configMap: break
            }
        }
        waypoints = WaypointIndex(
            gateways, classes, namespaces, pods: pods, services: services, network: network,
            clusterDomain: environment.clusterDomain)
    }

    /// The network of this cluster: a label of the root namespace. A pod's own label is not looked at, as Istio does.
    var network: String {
        namespaces[environment.rootNamespace]?.meta.labels["topology.istio.io/network"] ?? ""
    }

    /// Whether a pod is to be in the mesh: its own label, or else its namespace's. Pods in the host's network, and
    /// pods with a sidecar, cannot be; a waypoint speaks HBONE by itself, and is captured by nobody.
    func isEnrolled(_ pod: PodManifest) -> Bool {
        guard !pod.usesHostNetwork, pod.meta.annotations["sidecar.istio.io/status"] == nil,
            waypoints.waypoint(of: pod) == nil
        else { return false }
        let label = "istio.io/dataplane-mode"
        if let own = pod.meta.labels[label] { return own == "ambient" }
        return namespaces[pod.meta.namespace]?.meta.labels[label] == "ambient"
    }

    func locality(ofNode name: String) -> Locality {
        guard let labels = nodes[name]?.meta.labels else { return Locality() }
        return Locality(
            region: labels["topology.kubernetes.io/region"] ?? "",
            zone: labels["topology.kubernetes.io/zone"] ?? "",
            subzone: labels["topology.istio.io/subzone"] ?? "")
    }

    /// A service's name in DNS, which is half of its key.
    func hostname(of service: ServiceManifest) -> String {
        "\(service.meta.name).\(service.meta.namespace).svc.\(environment.clusterDomain)"
    }
}

extension ObjectIndex {
    /// What objects say that comes to nothing, or not to what it looks like.
    func warnings() -> [Problem] {
        var result: [Problem] = []
        func warn(_ meta: ObjectMeta, _ message: String) {
            result.append(Problem(.warning, at: meta.position, message))
        }
        for pod in pods.values.joined() where !pod.isTerminal {
            let name = "Pod \(pod.meta.namespace)/\(pod.meta.name)"
            if isEnrolled(pod) {
                if pod.addresses.isEmpty {
                    warn(pod.meta, "\(name) has no address yet and cannot be reached")
                }
                if pod.nodeName.isEmpty { warn(pod.meta, "\(name) names no node: nobody captures it") }
                if environment.enrolment == .declared, pod.meta.annotations["warren.dev/netns"] == nil {
                    warn(
                        pod.meta,
                        "\(name) is enrolled but has no annotation warren.dev/netns: its node cannot capture it, and it is out of reach"
                    )
                }
                if !pod.nodeName.isEmpty, nodes[pod.nodeName] == nil, environment.enrolment == .declared {
                    warn(pod.meta, "\(name) is on node \(pod.nodeName), which no Node object declares")
                }
            } else if pod.usesHostNetwork, pod.meta.labels["istio.io/dataplane-mode"] == "ambient" {
                warn(pod.meta, "\(name) uses the host's network and cannot be in the mesh")
            }
        }
        for (namespace, list) in deployments {
            for deployment in list
            where !(pods[namespace] ?? []).contains(where: { deployment.selector.matches($0.meta.labels) }) {
                warn(
                    deployment.meta,
                    "Deployment \(namespace)/\(deployment.meta.name) selects no Pod of this configuration; Warren starts none"
                )
            }
        }
        for (namespace, list) in services {
            for service in list {
                if let selector = service.selector, service.type != .externalName,
                    !(pods[namespace] ?? []).contains(where: {
                        WorkloadSelector(matchLabels: selector).matches($0.meta.labels)
                    })
                {
                    warn(
                        service.meta,
                        "Service \(namespace)/\(service.meta.name) selects no Pod: it has no endpoints")
                }
                if service.clusterIPs.isEmpty, !service.isHeadless, service.type != .externalName {
                    warn(
                        service.meta,
                        "Service \(namespace)/\(service.meta.name) has no clusterIP: it can be reached by name only"
                    )
                }
            }
        }
        result += waypointWarnings() + waypointPodWarnings() + sameNodeWarnings() + strictWaypointWarnings()
        return result + sharedAddressWarnings()
    }

    /// Two pods of one address: whoever connects to it cannot know whom they reach.
    private func sharedAddressWarnings() -> [Problem] {
        var owners: [String: ObjectMeta] = [:]
        var result: [Problem] = []
        for pod in pods.sorted(by: { $0.key < $1.key }).flatMap(\.value)
        where !pod.isTerminal && !pod.usesHostNetwork {
            for address in pod.addresses {
                if let first = owners[address.description] {
                    result.append(
                        Problem(
                            .warning, at: pod.meta.position,
                            "the address \(address) also belongs to Pod \(first.namespace)/\(first.name), at \(first.position)"
                        ))
                } else {
                    owners[address.description] = pod.meta
                }
            }
        }
        return result
    }
}
