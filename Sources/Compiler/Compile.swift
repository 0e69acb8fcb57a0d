import Documents
import Manifests
import Mesh

/// Turns the objects of a configuration into what proxies are sent (Istio's ambient semantics).
///
/// Pure: equal objects give equal resources, whatever the order in which they came.
public func compile(_ store: ObjectStore, in environment: Environment = Environment()) -> MeshResources {
    let index = ObjectIndex(store, environment)
    var result = MeshResources()
    result.nodes = Set(index.nodes.keys)
    result.nodeNamespaces = index.nodes.compactMapValues { $0.meta.annotations["warren.dev/netns"] }

    let peerAuthentications = PeerAuthenticationIndex(index)
    let policies = PolicyIndex(index)
    for policy in peerAuthentications.policies + policies.policies { result.policies[policy.name] = policy }

    for service in index.services.values.joined() {
        guard let compiled = compile(service, index) else { continue }
        result.services[compiled.key] = compiled
    }
    func attached(_ labels: [String: String], _ namespace: String) -> [NamespacedName] {
        (policies.names(for: labels, in: namespace) + peerAuthentications.names(for: labels, in: namespace))
            .sorted()
    }
    let endpoints = EndpointIndex(index)
    let entries = ServiceEntryIndex(index)
    var strictWaypoints = StrictWaypointIndex(index)
    for service in entries.services { result.services[service.key] = service }
    for service in index.waypoints.impliedServices { result.services[service.key] = service }
    for pod in index.pods.values.joined() {
        guard !pod.isTerminal else { continue }
        let isEnrolled = index.isEnrolled(pod)
        if !pod.addresses.isEmpty {
            var workload = workload(pod, isEnrolled: isEnrolled, endpoints, index)
            workload.services.merge(entries.services(of: pod.meta, labels: pod.meta.labels)) { first, _ in
                first
            }
            // A waypoint asks the policies that target it, and none that selects pods.
            workload.authorizationPolicies =
                index.waypoints.waypoint(of: pod).map(policies.names)
                ?? (attached(pod.meta.labels, pod.meta.namespace) + strictWaypoints.names(for: pod, workload))
                .sorted()
            result.workloads[workload.uid] = workload
        }
        if isEnrolled, !pod.nodeName.isEmpty {
            let identity = Identity(
                trustDomain: environment.trustDomain, namespace: pod.meta.namespace,
                serviceAccount: pod.serviceAccountName)
            result.identities[pod.nodeName, default: []].insert(identity)
            if let local = localPod(pod) { result.localPods[pod.nodeName, default: []].append(local) }
        }
    }
    result.policies.merge(strictWaypoints.policies) { first, _ in first }
    for workload in endpoints.workloads + entries.workloads { result.workloads[workload.uid] = workload }
    for entry in index.workloadEntries {
        result.workloads[entries.uid(of: entry)]?.authorizationPolicies = attached(
            entry.endpoint.labels, entry.meta.namespace)
    }
    result.waypoints = index.waypointDeclarations()
    let waypointServices = WaypointServiceIndex(
        index, services: result.services, workloads: result.workloads,
        labels: index.workloadLabels(entries))
    result.waypointServices = waypointServices.services
    for node in result.localPods.keys { result.localPods[node]?.sort { $0.uid < $1.uid } }

    result.warnings = peerAuthentications.warnings + policies.warnings + endpoints.warnings + index.warnings()
    result.warnings += waypointServices.warnings
    result.warnings.sort { ($0.position, $0.path, $0.message) < ($1.position, $1.path, $1.message) }
    return result
}
