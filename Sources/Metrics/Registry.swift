import Linux
import Synchronization

/// Something with a name that writes itself in the text format.
protocol Exposable: AnyObject, Sendable {
    var name: String { get }
    var help: String { get }
    var typeName: String { get }
    func samples(now: MonotonicTime) -> String
}

/// The metrics of a process. Modules declare their own; the admin page and the exporter read them all.
///
/// A name declared twice gives the same metric, so that several loops may each declare what they count.
public final class Registry: Sendable {
    /// The process's own.
    public static let shared = Registry()

    /// What the text is: OpenMetrics 1.0, which Prometheus and ztunnel's dashboards read.
    public static let contentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    private let families = Mutex<[String: any Exposable]>([:])

    public init() {}

    /// - Parameters:
    ///   - name: without the `_total` that the text format adds.
    ///   - scale: what a counted unit is worth in the unit of the name: 1e-9 for nanoseconds shown as seconds.
    public func counter(_ name: String, _ help: String, scale: Double = 1) -> Counter {
        counters(name, help, labels: [], scale: scale).with([])
    }

    public func gauge(_ name: String, _ help: String, scale: Double = 1) -> Gauge {
        gauges(name, help, labels: [], scale: scale).with([])
    }

    public func histogram(
        _ name: String, _ help: String, bounds: [Double] = Histogram.secondsBounds
    ) -> Histogram {
        histograms(name, help, labels: [], bounds: bounds).with([])
    }

    /// - Parameters:
    ///   - limit: the most series; what comes on top shares one named `other`.
    ///   - idle: how long an unused series is kept; nil for ever.
    public func counters(
        _ name: String, _ help: String, labels: [String], scale: Double = 1, limit: Int = 10_000,
        idle: Duration? = nil
    ) -> Family<Counter> {
        declare(
            Family(name: name, help: help, labels: labels, scale: scale, limit: limit, idle: idle) {
                Counter()
            })
    }

    public func gauges(
        _ name: String, _ help: String, labels: [String], scale: Double = 1, limit: Int = 10_000,
        idle: Duration? = nil
    ) -> Family<Gauge> {
        declare(
            Family(name: name, help: help, labels: labels, scale: scale, limit: limit, idle: idle) { Gauge() }
        )
    }

    public func histograms(
        _ name: String, _ help: String, labels: [String], bounds: [Double] = Histogram.secondsBounds,
        limit: Int = 1_000, idle: Duration? = nil
    ) -> Family<Histogram> {
        declare(
            Family(name: name, help: help, labels: labels, scale: 1, limit: limit, idle: idle) {
                Histogram(bounds: bounds)
            })
    }

    /// A gauge whose value is asked for when the metrics are read. Replaces an earlier one of that name.
    public func observed(_ name: String, _ help: String, _ value: @escaping @Sendable () -> Double) {
        let gauge = ObservedGauge(name: name, help: help, value: value)
        families.withLock { $0[name] = gauge }
    }

    /// All metrics that have samples, by name, as OpenMetrics text.
    public func encode(now: MonotonicTime = .now()) -> String {
        // Taken out of the lock: an observed value may look at anything, this registry included.
        let all = families.withLock { Array($0.values) }.sorted { $0.name < $1.name }
        var text = ""
        for family in all {
            let samples = family.samples(now: now)
            if samples.isEmpty { continue }
            text +=
                "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.typeName)\n\(samples)"
        }
        return text + "# EOF\n"
    }

    private func declare<Metric>(_ family: Family<Metric>) -> Family<Metric> {
        precondition(isMetricName(family.name), "\(family.name) is not a metric's name")
        return families.withLock { families in
            guard let known = families[family.name] else {
                families[family.name] = family
                return family
            }
            guard let same = known as? Family<Metric> else {
                preconditionFailure("\(family.name) is declared as a \(known.typeName) too")
            }
            return same
        }
    }
}

private final class ObservedGauge: Exposable {
    let name: String
    let help: String
    let value: @Sendable () -> Double
    var typeName: String { "gauge" }

    init(name: String, help: String, value: @escaping @Sendable () -> Double) {
        self.name = name
        self.help = help
        self.value = value
    }

    func samples(now: MonotonicTime) -> String { "\(name) \(value())\n" }
}

private func isMetricName(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
        return false
    }
    return !name.hasSuffix("_total")
        && name.utf8.allSatisfy { byte in
            byte == UInt8(ascii: "_") || byte == UInt8(ascii: ":")
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        }
}
