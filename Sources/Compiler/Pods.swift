import Manifests
import Mesh

/// The workload of a pod that has an address and has not ended (ztunnel's `Workload`).
func workload(_ pod: PodManifest, isEnrolled: Bool, _ endpoints: EndpointIndex, _ index: ObjectIndex)
    -> Workload
{
    let environment = index.environment
    let meta = pod.meta
    // `networking.istio.io/tunnel=http`: the application, or a sidecar beside it, speaks HBONE by itself. Waypoints that Istio
    // deploys have it too; one of a directory is known by its Gateway.
    let hasNativeTunnel =
        meta.labels["networking.istio.io/tunnel"]?.contains("http") ?? false
        || index.waypoints.waypoint(of: pod) != nil
    let isCaptured =
        switch environment.enrolment {
        case .declared: isEnrolled
        case .annotation: meta.annotations["ambient.istio.io/redirection"] == "enabled"
        }
    let workloadName = index.workloadName(of: pod)
    // A pod in a directory is as ready as its author left it; one that an API server knows has conditions.
    let isReady = pod.ready ?? (environment.enrolment == .declared)
    return Workload(
        uid: index.uid(of: pod), name: meta.name,
        namespace: meta.namespace,
        addresses: pod.addresses, network: index.network,
        tunnelProtocol: isCaptured || hasNativeTunnel ? .hbone : .none, trustDomain: environment.trustDomain,
        serviceAccount: pod.serviceAccountName, waypoint: index.waypoints.binding(meta, .workload).address,
        node: pod.nodeName,
        canonicalName: firstLabel(
            of: meta, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"],
            default: workloadName),
        canonicalRevision: firstLabel(
            of: meta, ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"],
            default: "latest"),
        kind: .pod, workloadName: workloadName, nativeTunnel: hasNativeTunnel,
        applicationTunnel: index.waypoints.applicationTunnel(of: pod),
        services: endpoints.services(of: pod).merging(index.waypoints.impliedServices(of: pod)) { first, _ in
            first
        },
        status: isReady && !meta.isBeingDeleted ? .healthy : .unhealthy, clusterID: environment.clusterID,
        locality: index.locality(ofNode: pod.nodeName),
        networkMode: pod.usesHostNetwork ? .hostNetwork : .standard,
        encryptsOnSameNode: index.encryptsOnSameNode(pod))
}

/// What the pod's node needs in order to capture it; nil where the pod does not say where its namespace is.
func localPod(_ pod: PodManifest) -> LocalPod? {
    guard let networkNamespace = pod.meta.annotations["warren.dev/netns"], !networkNamespace.isEmpty else {
        return nil
    }
    return LocalPod(
        uid: pod.meta.uid ?? "\(pod.meta.namespace)/\(pod.meta.name)", namespace: pod.meta.namespace,
        name: pod.meta.name, serviceAccount: pod.serviceAccountName, labels: pod.meta.labels,
        addresses: pod.addresses,
        networkNamespace: networkNamespace)
}

private func firstLabel(of meta: ObjectMeta, _ keys: [String], default fallback: String) -> String {
    keys.lazy.compactMap { meta.labels[$0] }.first { !$0.isEmpty } ?? fallback
}

extension ObjectIndex {
    /// The name of what made the pod: its Deployment, CronJob or other controller. A pod of a directory has no
    /// owner; there a Deployment that selects it lends its name.
    func workloadName(of pod: PodManifest) -> String {
        let meta = pod.meta
        if let owner = meta.owners.first(where: \.isController) {
            switch owner.kind {
            case "ReplicaSet":
                // A Deployment's ReplicaSet is the Deployment's name and a hash, which is also a label of the pod.
                guard let hash = meta.labels["pod-template-hash"], owner.name.hasSuffix("-\(hash)") else {
                    break
                }
                return String(owner.name.dropLast(hash.count + 1))
            case "Job":
                // A CronJob's Job is the CronJob's name and the minute it was due, in eight digits or a few more.
                let parts = owner.name.split(separator: "-")
                guard parts.count > 1, let last = parts.last, (8...10).contains(last.count),
                    last.allSatisfy({ $0.isASCII && $0.isNumber })
                else { break }
                return String(owner.name.dropLast(last.count + 1))
            default: break
            }
            return owner.name
        }
        let deployment = deployments[meta.namespace]?.first { $0.selector.matches(meta.labels) }
        return deployment?.meta.name ?? meta.name
    }
}

extension ObjectIndex {
    func uid(of pod: PodManifest) -> String {
        "\(environment.clusterID)//Pod/\(pod.meta.namespace)/\(pod.meta.name)"
    }

    /// By uid: what subsets choose endpoints by.
    func workloadLabels(_ entries: ServiceEntryIndex) -> [String: [String: String]] {
        var result: [String: [String: String]] = [:]
        guard destinationRules.contains(where: { !$0.subsets.isEmpty }) else { return result }
        for pod in pods.values.joined() { result[uid(of: pod)] = pod.meta.labels }
        for entry in workloadEntries { result[entries.uid(of: entry)] = entry.endpoint.labels }
        for entry in serviceEntries {
            for endpoint in entry.endpoints { result[entries.uid(of: endpoint, in: entry)] = endpoint.labels }
        }
        return result
    }
}
