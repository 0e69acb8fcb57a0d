import Mesh

/// The service that an inbound connection is counted under: the one that the client named if the workload is part of it,
/// else the first that leads to this port. A client cannot make up a name (ztunnel.md §7.2).
func destinationService(
    of workload: Workload, port: UInt16, named hostname: String?, snapshot: Snapshot
) -> ServiceEntry? {
    let candidates = workload.services.keys.sorted().compactMap { snapshot.service($0) }
    if let hostname, let named = candidates.first(where: { $0.service.hostname == hostname }) { return named }
    return candidates.first { entry in
        if let own = workload.services[entry.service.key], own.values.contains(port) { return true }
        return entry.service.ports.contains { $0.targetPort == port }
    }
}
