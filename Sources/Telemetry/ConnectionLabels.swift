import Mesh

/// The labels of Istio's TCP metrics, in ztunnel's order (ztunnel.md §7.2).
enum ConnectionLabels {
    static let names =
        MeshLabels.names + [
            "request_protocol", "response_flags", "connection_security_policy", "source_region",
            "source_zone", "destination_region", "destination_zone",
        ]

    /// - Parameter flag: `response_flags`.
    static func values(_ record: ConnectionRecord, flag: String) -> [String] {
        let source = record.source.workload?.workload.locality
        let destination = record.destination.workload?.workload.locality
        return MeshLabels.values(
            record.direction, source: record.source, destination: record.destination, service: record.service)
            + [
                "tcp", flag, securityPolicy(record.path), MeshLabels.known(source?.region),
                MeshLabels.known(source?.zone), MeshLabels.known(destination?.region),
                MeshLabels.known(destination?.zone),
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
}
