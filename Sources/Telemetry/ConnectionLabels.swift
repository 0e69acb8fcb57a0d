import Mesh

/// The labels of Istio's TCP metrics, in ztunnel's order (ztunnel.md §7.2).
enum ConnectionLabels {
    static let names = [
        "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
        "destination_service", "destination_service_namespace", "destination_service_name",
        "destination_workload", "destination_canonical_service", "destination_canonical_revision",
        "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
        "destination_cluster", "request_protocol", "response_flags", "connection_security_policy",
        "source_region", "source_zone", "destination_region", "destination_zone",
    ]

    /// - Parameter flag: `response_flags`.
    static func values(_ record: ConnectionRecord, flag: String) -> [String] {
        let source = record.source.workload?.workload
        let destination = record.destination.workload?.workload
        let service = record.service?.service
        return [
            record.direction.reporter, known(source?.workloadName), known(source?.canonicalName),
            known(source?.canonicalRevision), known(source?.namespace), known(record.source.identity?.uri),
            known(source?.canonicalName), known(source?.canonicalRevision), known(source?.clusterID),
            known(service?.hostname), known(service?.namespace), known(service?.name),
            known(destination?.workloadName), known(destination?.canonicalName),
            known(destination?.canonicalRevision), known(destination?.namespace),
            known(record.destination.identity?.uri), known(destination?.canonicalName),
            known(destination?.canonicalRevision), known(destination?.clusterID), "tcp", flag,
            securityPolicy(record.path), known(source?.locality.region),
            known(source?.locality.zone), known(destination?.locality.region),
            known(destination?.locality.zone),
        ]
    }

    /// What Istio's dashboards take for safe is that both identities were proven. Of the same node's connections they were,
    /// though nothing was encrypted: `warren_connections` tells them apart.
    private static func securityPolicy(_ path: ConnectionRecord.Path) -> String {
        switch path {
        case .plain: "unknown"
        case .tunnel, .sameNode: "mutual_tls"
        }
    }

    private static func known(_ value: String?) -> String {
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
