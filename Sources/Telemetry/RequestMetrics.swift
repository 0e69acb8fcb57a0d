import Linux
import Mesh
import Metrics

/// Istio's metrics of HTTP requests, counted by one loop of a waypoint; the sums are the registry's.
///
/// Labels come from the mesh's objects, from certificates and from what the proxy made of a request: never from its path or a
/// header. Statuses are an endpoint's to choose, so what is none of the protocol's counts as `other`.
///
/// As in `ConnectionMetrics` each loop keeps the series that it serves at present, for a look-up by 25 labels is dear.
public final class RequestMetrics {
    private final class Series {
        let requests: Counter
        let duration, received, sent: Histogram
        /// Made with the first request whose messages were counted.
        var messages: (request: Counter, response: Counter)?
        /// They keep the addresses that the key stands for.
        private let kept: (WorkloadEntry?, WorkloadEntry?, ServiceEntry?)

        init(_ record: RequestRecord, _ families: Families) {
            let labels = RequestLabels.values(record)
            requests = families.requests.with(labels)
            duration = families.duration.with(labels)
            received = families.received.with(labels)
            sent = families.sent.with(labels)
            kept = (record.client.workload, record.destination.workload, record.service)
        }
    }

    private struct Families {
        let requests, requestMessages, responseMessages: Family<Counter>
        let duration, received, sent: Family<Histogram>
    }

    private struct Key: Hashable {
        var source, destination, service: ObjectIdentifier?
        var sourceIdentity, destinationIdentity: Identity?
        var isGRPC: Bool
        var status: Int
        var grpcStatus: Int?
        var flags: String

        /// By the objects and the statuses alone: the rest follows from them nearly always, and is strings to hash.
        func hash(into hasher: inout Hasher) {
            hasher.combine(source)
            hasher.combine(destination)
            hasher.combine(service)
            hasher.combine(status)
            hasher.combine(grpcStatus)
        }
    }

    private let families: Families
    private var cache: [Key: Series] = [:]
    private static let cacheLimit = 4_096

    /// Envoy's, which Istio leaves as they are, of milliseconds and of bytes alike.
    static let bounds: [Double] = [
        0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
        1_800_000, 3_600_000,
    ]

    /// - Parameters:
    ///   - idle: how long a series that nothing counts in stays visible.
    ///   - seriesLimit: of each counter; what comes on top shares one series named `other`.
    ///   - histogramLimit: of each histogram, which is 22 samples to write where a counter is one.
    public init(
        _ registry: Registry, idle: Duration = .seconds(3_600), seriesLimit: Int = 20_000,
        histogramLimit: Int = 2_000
    ) {
        func counters(_ name: String, _ help: String, _ labels: [String]) -> Family<Counter> {
            registry.counters("istio_\(name)", help, labels: labels, limit: seriesLimit, idle: idle)
        }
        func histograms(_ name: String, _ help: String) -> Family<Histogram> {
            registry.histograms(
                "istio_\(name)", help, labels: RequestLabels.names, bounds: Self.bounds,
                limit: histogramLimit, idle: idle)
        }
        families = Families(
            requests: counters("requests", "The total number of HTTP requests", RequestLabels.names),
            requestMessages: counters(
                "request_messages", "The total number of gRPC messages from clients", MeshLabels.names),
            responseMessages: counters(
                "response_messages", "The total number of gRPC messages to clients", MeshLabels.names),
            duration: histograms(
                "request_duration_milliseconds",
                "How long requests took, from their heads to the ends of their answers"),
            received: histograms("request_bytes", "The size of the content of HTTP requests"),
            sent: histograms("response_bytes", "The size of the content of HTTP responses"))
    }

    /// Forgets the looked-up series, after which idle ones can expire: with every new snapshot, whose workloads are new
    /// objects in any case.
    public func forgetSeries() {
        cache.removeAll()
    }

    /// Counts a request that is over.
    public func count(_ record: RequestRecord) {
        let series = series(record)
        series.requests.add()
        series.duration.observe(max(0, Double(record.duration.wholeNanoseconds) / 1e6))
        series.received.observe(Double(record.bytesReceived))
        series.sent.observe(Double(record.bytesSent))
        guard record.isGRPC, record.requestMessages != nil || record.responseMessages != nil else { return }
        let messages = series.messages ?? messageCounters(record)
        series.messages = messages
        messages.request.add(Int(clamping: record.requestMessages ?? 0))
        messages.response.add(Int(clamping: record.responseMessages ?? 0))
    }

    /// Istio's have the labels of the two ends only, for they count while a call goes on and nobody knows how it will end.
    private func messageCounters(_ record: RequestRecord) -> (request: Counter, response: Counter) {
        let labels = RequestLabels.ends(record)
        return (families.requestMessages.with(labels), families.responseMessages.with(labels))
    }

    private func series(_ record: RequestRecord) -> Series {
        let key = Key(
            source: record.client.workload.map(ObjectIdentifier.init),
            destination: record.destination.workload.map(ObjectIdentifier.init),
            service: record.service.map(ObjectIdentifier.init), sourceIdentity: record.client.identity,
            destinationIdentity: record.destination.identity, isGRPC: record.isGRPC,
            status: record.status, grpcStatus: record.grpcStatus, flags: record.flags)
        if let known = cache[key] { return known }
        if cache.count >= Self.cacheLimit { cache.removeAll() }
        let series = Series(record, families)
        cache[key] = series
        return series
    }
}

/// The labels of Istio's HTTP metrics.
enum RequestLabels {
    static let names =
        MeshLabels.names + [
            "request_protocol", "response_code", "grpc_response_status", "response_flags",
            "connection_security_policy",
        ]

    static func ends(_ record: RequestRecord) -> [String] {
        MeshLabels.values(
            .waypoint, source: record.client, destination: record.destination, service: record.service)
    }

    static func values(_ record: RequestRecord) -> [String] {
        ends(record) + [
            record.isGRPC ? "grpc" : "http", code(record.status),
            // Istio's is empty, not unknown, where there is none.
            record.isGRPC ? record.grpcStatus.map(grpcCode) ?? "" : "",
            record.flags.isEmpty ? "-" : record.flags,
            record.client.identity == nil ? "unknown" : "mutual_tls",
        ]
    }

    /// 0 is a request without an answer (RFC 9110 §15 for the rest).
    private static func code(_ status: Int) -> String {
        status == 0 || (100...599).contains(status) ? "\(status)" : "other"
    }

    /// The 17 codes that gRPC has.
    private static func grpcCode(_ status: Int) -> String {
        (0...16).contains(status) ? "\(status)" : "other"
    }
}
