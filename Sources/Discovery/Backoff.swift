/// How long to wait before the next attempt: doubling from `base` to `limit`, each wait spread so that the clients of a
/// server that comes back do not come back together.
public struct Backoff: Sendable, Equatable {
    public let base: Duration
    public let limit: Duration
    /// The part of a wait by which it may be shorter or longer: 0.2 is ±20 %.
    public let spread: Double
    /// Attempts that failed in a row.
    public private(set) var failures = 0

    public init(base: Duration, limit: Duration, spread: Double) {
        self.base = base
        self.limit = limit
        self.spread = spread
    }

    /// Of the xDS stream.
    public static let stream = Backoff(base: .milliseconds(10), limit: .seconds(15), spread: 0.5)
    /// Of requests for one certificate.
    public static let certificate = Backoff(base: .seconds(1), limit: .seconds(150), spread: 0.2)
    /// Of requests for the node's own certificate.
    public static let nodeCertificate = Backoff(base: .seconds(1), limit: .seconds(15), spread: 0.2)

    /// An attempt failed.
    ///
    /// - Parameter random: -1 ... 1.
    /// - Returns: how long to wait; never more than `limit`.
    public mutating func failed(random: Double) -> Duration {
        // 2^20 times any base is beyond any limit.
        let wait = min(base * (1 << min(failures, 20)), limit)
        failures += 1
        return min(wait * (1 + spread * max(-1, min(1, random))), limit)
    }

    /// An attempt succeeded.
    public mutating func succeeded() {
        failures = 0
    }
}
