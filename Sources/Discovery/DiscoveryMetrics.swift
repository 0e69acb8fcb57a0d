import GRPC
import Metrics

/// What discovery counts; names are ztunnel's where it has them.
struct DiscoveryMetrics {
    let rejected: Counter
    let certificatesIssued: Counter
    let certificatesFailed: Counter
    private let terminations: Family<Counter>
    private let messages: Family<Counter>
    private let messageBytes: Family<Counter>

    init(_ registry: Registry) {
        terminations = registry.counters(
            "istio_xds_connection_terminations", "Ends of the xDS stream, by reason", labels: ["reason"])
        messages = registry.counters("istio_xds_message", "xDS responses, by type", labels: ["url"])
        messageBytes = registry.counters(
            "istio_xds_message_bytes", "Bytes of xDS responses, by type", labels: ["url"])
        rejected = registry.counter("warren_xds_rejected_resources", "Resources that were refused")
        certificatesIssued = registry.counter(
            "warren_certificates_issued", "Certificates obtained from the CA")
        certificatesFailed = registry.counter(
            "warren_certificate_failures", "Requests for certificates that failed")
    }

    func received(_ typeURL: String, byteCount: Int) {
        // What the server calls a type is its own affair; the number of series is bounded.
        messages.with(typeURL).add()
        messageBytes.with(typeURL).add(byteCount)
    }

    func ended(_ status: GRPCStatus, wasConnected: Bool) {
        let reason =
            switch status.code {
            case .ok: "Complete"
            case .unavailable where !wasConnected: "ConnectionError"
            default: status.isOrderly ? "Reconnect" : "Error"
            }
        terminations.with(reason).add()
    }
}
