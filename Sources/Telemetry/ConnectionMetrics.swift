import Linux
import Mesh
import Metrics

/// Istio's TCP metrics, counted by one loop; the sums are the registry's.
///
/// A look-up by 27 labels is dear, so each loop keeps the series of the pairs that it serves at present.
public final class ConnectionMetrics {
    /// What connections without a fault count in. Failures have series of their own, under their flag.
    final class Series {
        let opened, closed, received, sent: Counter
        /// One of the connections that count here. It keeps the objects that its key stands for, so that no others get
        /// their addresses, and names the series of those that fail.
        let record: ConnectionRecord

        fileprivate init(_ record: ConnectionRecord, _ families: Families) {
            let labels = ConnectionLabels.values(record, flag: "-")
            opened = families.opened.with(labels)
            closed = families.closed.with(labels)
            received = families.received.with(labels)
            sent = families.sent.with(labels)
            self.record = record
        }
    }

    fileprivate struct Families {
        let opened, closed, failed, received, sent: Family<Counter>
    }

    private struct Key: Hashable {
        var direction: ConnectionRecord.Direction
        var source, destination, service: ObjectIdentifier?
        var sourceIdentity, destinationIdentity: Identity?
        var path: ConnectionRecord.Path

        /// By the objects alone: the identities follow from them nearly always, and are six strings to hash.
        func hash(into hasher: inout Hasher) {
            hasher.combine(source)
            hasher.combine(destination)
            hasher.combine(service)
            hasher.combine(direction)
        }
    }

    private let families: Families
    private let socketsOpen: [ConnectionRecord.Direction: Gauge]
    private let carried: [ConnectionRecord.Direction: [ConnectionRecord.Path: Counter]]
    private var cache: [Key: Series] = [:]
    private static let cacheLimit = 4_096

    /// - Parameters:
    ///   - idle: how long a pair that has no traffic stays visible.
    ///   - directions: from where connections are seen.
    ///   - seriesLimit: pairs above it share one series named `other`.
    public init(
        _ registry: Registry, directions: [ConnectionRecord.Direction] = [.inbound, .outbound],
        idle: Duration = .seconds(3_600), seriesLimit: Int = 20_000
    ) {
        func family(_ name: String, _ help: String) -> Family<Counter> {
            registry.counters(
                "istio_tcp_\(name)", help, labels: ConnectionLabels.names, limit: seriesLimit, idle: idle)
        }
        families = Families(
            opened: family("connections_opened", "The total number of TCP connections opened"),
            closed: family("connections_closed", "The total number of TCP connections closed"),
            failed: family(
                "connections_failed", "The total number of TCP connections that failed (unstable)"),
            received: family(
                "received_bytes",
                "The size of total bytes received during request in case of a TCP connection"),
            sent: family(
                "sent_bytes", "The size of total bytes sent during response in case of a TCP connection"))
        let sockets = registry.gauges(
            "istio_tcp_sockets_open", "Connections open at the moment (unstable)", labels: ["reporter"])
        var open: [ConnectionRecord.Direction: Gauge] = [:]
        for direction in directions { open[direction] = sockets.with(direction.reporter) }
        socketsOpen = open
        let carried = registry.counters(
            "warren_connections", "Connections whose both sides were there, by the way that they took",
            labels: ["reporter", "path"])
        func byPath(_ direction: ConnectionRecord.Direction) -> [ConnectionRecord.Path: Counter] {
            var counters: [ConnectionRecord.Path: Counter] = [:]
            for path in ConnectionRecord.Path.allCases {
                counters[path] = carried.with(direction.reporter, path.rawValue)
            }
            return counters
        }
        self.carried = directions.reduce(into: [:]) { $0[$1] = byPath($1) }
    }

    /// Forgets the looked-up series, after which idle ones can expire: with every new snapshot, whose workloads are new
    /// objects in any case.
    public func forgetSeries() {
        cache.removeAll()
    }

    /// Counts a connection that begins to carry bytes, by its path.
    public func countCarried(_ record: ConnectionRecord) {
        carried[record.direction]?[record.path]?.add()
    }

    /// Counts a connection as opened and follows it; what is known of it then names its series.
    public func open(_ record: ConnectionRecord) -> ConnectionMeter {
        let series = series(record)
        series.opened.add()
        let sockets = socketsOpen[record.direction]
        sockets?.add(1)
        return ConnectionMeter(self, series, sockets)
    }

    private func series(_ record: ConnectionRecord) -> Series {
        let key = Key(
            direction: record.direction, source: record.source.workload.map(ObjectIdentifier.init),
            destination: record.destination.workload.map(ObjectIdentifier.init),
            service: record.service.map(ObjectIdentifier.init), sourceIdentity: record.source.identity,
            destinationIdentity: record.destination.identity, path: record.path)
        if let known = cache[key] { return known }
        if cache.count >= Self.cacheLimit { cache.removeAll() }
        let series = Series(record, families)
        cache[key] = series
        return series
    }

    fileprivate func countFailure(_ record: ConnectionRecord, flag: String) {
        let labels = ConnectionLabels.values(record, flag: flag)
        families.closed.with(labels).add()
        families.failed.with(labels).add()
    }
}

/// One connection's way through the metrics: opened once, bytes as they flow, closed exactly once.
public struct ConnectionMeter: ~Copyable {
    private let metrics: ConnectionMetrics
    private let series: ConnectionMetrics.Series
    private let sockets: Gauge?
    private var fromClient: UInt64 = 0
    private var toClient: UInt64 = 0

    init(
        _ metrics: ConnectionMetrics, _ series: ConnectionMetrics.Series, _ sockets: Gauge?
    ) {
        self.metrics = metrics
        self.series = series
        self.sockets = sockets
    }

    /// Counts what has flowed since the last time. Long connections show before they end.
    ///
    /// - Parameters: totals since the connection began.
    public mutating func count(fromClient: UInt64, toClient: UInt64) {
        series.received.add(Int(clamping: fromClient &- self.fromClient))
        series.sent.add(Int(clamping: toClient &- self.toClient))
        self.fromClient = fromClient
        self.toClient = toClient
    }

    /// Counts the end.
    public consuming func close(_ reason: CloseReason) {
        let flag = reason.responseFlag
        if flag == "-" {
            series.closed.add()
        } else {
            metrics.countFailure(series.record, flag: flag)
        }
        sockets?.add(-1)
    }
}
