import Address
import Documents
import Manifests
import Mesh

/// Which services a pod serves, and the endpoints that are no pods.
struct EndpointIndex {
    /// Endpoints of EndpointSlices behind which there is no pod: reached as they are, without identity.
    private(set) var workloads: [Workload] = []
    private(set) var warnings: [Problem] = []
    private var byPod: [NamespacedName: [NamespacedName: [UInt16: UInt16]]] = [:]
    private let index: ObjectIndex

    init(_ index: ObjectIndex) {
        self.index = index
        guard !index.slices.isEmpty else { return }
        let pods = Set(
            index.pods.values.joined().map {
                NamespacedName(namespace: $0.meta.namespace, name: $0.meta.name)
            })
        let services = Dictionary(
            index.services.values.joined().map {
                (NamespacedName(namespace: $0.meta.namespace, name: $0.meta.name), $0)
            }
        ) { first, _ in first }
        for slice in index.slices { add(slice, pods, services) }
    }

    /// Service port to the pod's own port, by service.
    func services(of pod: PodManifest) -> [NamespacedName: [UInt16: UInt16]] {
        let name = NamespacedName(namespace: pod.meta.namespace, name: pod.meta.name)
        var result = byPod[name] ?? [:]
        for service in index.services[pod.meta.namespace] ?? [] where service.type != .externalName {
            guard let selector = service.selector,
                WorkloadSelector(matchLabels: selector).matches(pod.meta.labels)
            else { continue }
            var ports: [UInt16: UInt16] = [:]
            for port in service.tcpPorts {
                switch port.target {
                case .number(let number): ports[port.port] = number
                case .name(let name):
                    // A pod without a port of that name does not serve it.
                    if let port = port.isServed(by: pod, as: name) { ports[port.service] = port.target }
                }
            }
            result[NamespacedName(namespace: service.meta.namespace, name: index.hostname(of: service))] =
                ports
        }
        return result
    }

    private mutating func add(
        _ slice: EndpointSliceManifest, _ pods: Set<NamespacedName>,
        _ services: [NamespacedName: ServiceManifest]
    ) {
        let namespace = slice.meta.namespace
        guard let service = services[NamespacedName(namespace: namespace, name: slice.serviceName)] else {
            if !slice.serviceName.isEmpty {
                warnings.append(
                    Problem(
                        .warning, at: slice.meta.position,
                        "EndpointSlice \(namespace)/\(slice.meta.name) is for Service \(slice.serviceName), which does not exist"
                    ))
            }
            return
        }
        let key = NamespacedName(namespace: namespace, name: index.hostname(of: service))
        var ports: [UInt16: UInt16] = [:]
        for port in service.tcpPorts {
            guard let target = slice.ports.first(where: { $0.name == port.name && $0.transport == .tcp })
            else { continue }
            ports[port.port] = target.port
        }
        for endpoint in slice.endpoints {
            let pod = endpoint.podName.map { NamespacedName(namespace: namespace, name: $0) }
            if let pod, pods.contains(pod) {
                // Where there is a selector, that is what decides, here as in the controller that writes slices.
                if service.selector == nil {
                    byPod[pod, default: [:]][key] = ports
                }
                continue
            }
            for address in endpoint.addresses {
                workloads.append(workload(slice, endpoint, address, services: [key: ports]))
            }
        }
    }

    private func workload(
        _ slice: EndpointSliceManifest, _ endpoint: EndpointSliceManifest.Endpoint, _ address: IPAddress,
        services: [NamespacedName: [UInt16: UInt16]]
    ) -> Workload {
        let (clusterID, meta) = (index.environment.clusterID, slice.meta)
        return Workload(
            uid: "\(clusterID)/discovery.k8s.io/EndpointSlice/\(meta.namespace)/\(meta.name)/\(address)",
            name: meta.name, namespace: meta.namespace, addresses: [address], network: index.network,
            trustDomain: index.environment.trustDomain, serviceAccount: "", node: endpoint.nodeName,
            canonicalName: slice.serviceName, canonicalRevision: "latest", workloadName: meta.name,
            services: services,
            status: endpoint.isReady ? .healthy : .unhealthy, clusterID: clusterID,
            locality: index.locality(ofNode: endpoint.nodeName), networkMode: .hostNetwork)
    }
}

extension ServiceManifest.Port {
    fileprivate func isServed(by pod: PodManifest, as name: String) -> (service: UInt16, target: UInt16)? {
        pod.ports.first { $0.name == name && $0.transport == .tcp }.map { (port, $0.port) }
    }
}
