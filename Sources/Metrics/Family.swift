import Linux
import Synchronization

/// A metric with labels: one series for each combination of their values.
///
/// The look-up takes a lock; a connection does it once and keeps the series. The number of series is bounded, for label
/// values come from peers: combinations over the limit share one series in which every label is `other`. A series that
/// nobody holds and that has not changed for a while is dropped.
public final class Family<Metric: Measurable>: Sendable {
    private struct Entry {
        var metric: Metric
        var fingerprint: UInt64
        var changed: MonotonicTime
    }

    private struct State {
        var entries: [[String]: Entry] = [:]
        var overflow: Metric?
        var overflowed = 0
    }

    public let name: String
    let help: String
    let scale: Double
    private let labels: [String]
    private let limit: Int
    private let idle: Duration?
    private let make: @Sendable () -> Metric
    private let state = Mutex(State())

    init(
        name: String, help: String, labels: [String], scale: Double, limit: Int, idle: Duration?,
        make: @escaping @Sendable () -> Metric
    ) {
        self.name = name
        self.help = help
        self.labels = labels
        self.scale = scale
        self.limit = limit
        self.idle = idle
        self.make = make
    }

    /// The series of these label values, in the order in which the labels were declared.
    public func with(_ values: [String], now: MonotonicTime = .now()) -> Metric {
        precondition(values.count == labels.count, "\(name) has \(labels.count) labels")
        return state.withLock { state in
            if let known = state.entries[values] { return known.metric }
            guard state.entries.count < limit else {
                state.overflowed += 1
                let shared = state.overflow ?? make()
                state.overflow = shared
                return shared
            }
            let metric = make()
            state.entries[values] = Entry(metric: metric, fingerprint: metric.fingerprint, changed: now)
            return metric
        }
    }

    public func with(_ values: String...) -> Metric { with(values) }

    /// How many look-ups met the limit.
    public var overflowCount: Int { state.withLock { $0.overflowed } }
    public var seriesCount: Int { state.withLock { $0.entries.count } }
}

extension Family: Exposable {
    var typeName: String { Metric.typeName }

    func samples(now: MonotonicTime) -> String {
        var (entries, overflow) = state.withLock { state in
            if let idle { expire(&state.entries, idle, now) }
            return (state.entries.map { (key: $0.key, metric: $0.value.metric) }, state.overflow)
        }
        entries.sort { $0.key.lexicographicallyPrecedes($1.key) }
        var text = ""
        for (values, metric) in entries {
            metric.encode(name: name, labels: encodeLabels(labels, values), scale: scale, into: &text)
        }
        if let overflow {
            let values = labels.map { _ in "other" }
            overflow.encode(name: name, labels: encodeLabels(labels, values), scale: scale, into: &text)
        }
        return text
    }

    private func expire(_ entries: inout [[String]: Entry], _ idle: Duration, _ now: MonotonicTime) {
        for values in Array(entries.keys) {
            // Taken out of the table while it is judged, so that a reference counted here is somebody else's.
            guard var entry = entries.removeValue(forKey: values) else { continue }
            let fingerprint = entry.metric.fingerprint
            if fingerprint != entry.fingerprint {
                entry.fingerprint = fingerprint
                entry.changed = now
            } else if now - entry.changed >= idle, isKnownUniquelyReferenced(&entry.metric) {
                continue
            }
            entries[values] = entry
        }
    }
}
