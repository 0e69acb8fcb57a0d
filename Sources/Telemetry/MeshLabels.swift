import Mesh

/// The labels that Istio's metrics of connections and of requests share: who reports, and what the mesh knows of both ends.
/// In ztunnel's order (ztunnel.md §7.2).
enum MeshLabels {
    static let names = [
        "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
        "destination_service", "destination_service_namespace", "destination_service_name",
        "destination_workload", "destination_canonical_service", "destination_canonical_revision",
        "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
        "destination_cluster",
    ]

    static func values(
        _ direction: ConnectionRecord.Direction, source: ConnectionRecord.End,
        destination: ConnectionRecord.End, service: ServiceEntry?
    ) -> [String] {
        let client = source.workload?.workload
        let server = destination.workload?.workload
        let service = service?.service
        return [
            direction.reporter, known(client?.workloadName), known(client?.canonicalName),
            known(client?.canonicalRevision), known(client?.namespace), known(source.identity?.uri),
            known(client?.canonicalName), known(client?.canonicalRevision), known(client?.clusterID),
            known(service?.hostname), known(service?.namespace), known(service?.name),
            known(server?.workloadName), known(server?.canonicalName), known(server?.canonicalRevision),
            known(server?.namespace), known(destination.identity?.uri), known(server?.canonicalName),
            known(server?.canonicalRevision), known(server?.clusterID),
        ]
    }

    static func known(_ value: String?) -> String {
        guard let value, !value.isEmpty else { return "unknown" }
        return value
    }
}

extension ConnectionRecord.Direction {
    /// The side that reports: the source of outbound connections, the destination of inbound ones.
    var reporter: String {
        switch self {
        case .outbound: "source"
        case .inbound: "destination"
        case .waypoint: "waypoint"
        }
    }
}
