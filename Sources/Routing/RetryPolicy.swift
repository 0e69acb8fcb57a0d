/// When a request is tried again, and how often (HTTPRetry).
public struct RetryPolicy: Hashable, Sendable {
    /// Tries after the first one.
    public var attempts: Int
    public var perTryTimeout: Duration?
    public var conditions: RetryConditions
    /// Statuses that `retriable-status-codes` means.
    public var statuses: Set<Int>
    public var avoidsPreviousEndpoints = true
    public var usesRemoteLocalities = false
    /// The first pause's upper bound; it doubles up to ten times as much.
    public var backoff: Duration = .milliseconds(25)

    public init(
        attempts: Int, perTryTimeout: Duration? = nil, conditions: RetryConditions = .meshDefault,
        statuses: Set<Int> = []
    ) {
        self.attempts = attempts
        self.perTryTimeout = perTryTimeout
        self.conditions = conditions
        self.statuses = statuses
    }

    /// What holds where nobody said anything: two more tries for what cannot have reached an application.
    public static let meshDefault = RetryPolicy(attempts: 2)
}

/// The values of `retryOn`.
public struct RetryConditions: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let serverErrors = RetryConditions(rawValue: 1 << 0)
    public static let gatewayErrors = RetryConditions(rawValue: 1 << 1)
    public static let reset = RetryConditions(rawValue: 1 << 2)
    public static let resetBeforeRequest = RetryConditions(rawValue: 1 << 3)
    public static let connectFailure = RetryConditions(rawValue: 1 << 4)
    public static let conflict = RetryConditions(rawValue: 1 << 5)
    public static let refusedStream = RetryConditions(rawValue: 1 << 6)
    public static let statuses = RetryConditions(rawValue: 1 << 7)
    public static let headers = RetryConditions(rawValue: 1 << 8)
    public static let rateLimited = RetryConditions(rawValue: 1 << 9)
    public static let http3PostConnectFailure = RetryConditions(rawValue: 1 << 10)
    public static let grpcCancelled = RetryConditions(rawValue: 1 << 11)
    public static let grpcDeadlineExceeded = RetryConditions(rawValue: 1 << 12)
    public static let grpcInternal = RetryConditions(rawValue: 1 << 13)
    public static let grpcResourceExhausted = RetryConditions(rawValue: 1 << 14)
    public static let grpcUnavailable = RetryConditions(rawValue: 1 << 15)

    /// Istio's default list.
    public static let meshDefault: RetryConditions = [
        .connectFailure, .refusedStream, .grpcUnavailable, .grpcCancelled, .statuses,
    ]

    /// Every condition by its name in `retryOn`.
    public static let names: [(String, RetryConditions)] = [
        ("5xx", .serverErrors), ("gateway-error", .gatewayErrors), ("reset", .reset),
        ("reset-before-request", .resetBeforeRequest), ("connect-failure", .connectFailure),
        ("retriable-4xx", .conflict), ("refused-stream", .refusedStream),
        ("retriable-status-codes", .statuses), ("retriable-headers", .headers),
        ("envoy-ratelimited", .rateLimited), ("http3-post-connect-failure", .http3PostConnectFailure),
        ("cancelled", .grpcCancelled), ("deadline-exceeded", .grpcDeadlineExceeded),
        ("internal", .grpcInternal), ("resource-exhausted", .grpcResourceExhausted),
        ("unavailable", .grpcUnavailable),
    ]

    /// Reads `retryOn`: names and statuses, separated by commas. Empty stands for the default.
    public static func parse(_ text: String) throws(UnknownRetryCondition) -> (RetryConditions, Set<Int>) {
        var result: RetryConditions = []
        var statuses: Set<Int> = []
        for part in text.split(separator: ",") {
            let word = part.drop { $0 == " " }
            let name = word.lastIndex { $0 != " " }.map { String(word[...$0]) } ?? ""
            if let condition = names.first(where: { $0.0 == name })?.1 {
                result.insert(condition)
            } else if let status = Int(name), (100...599).contains(status) {
                result.insert(.statuses)
                statuses.insert(status)
            } else {
                throw UnknownRetryCondition(name: name)
            }
        }
        return (result.isEmpty ? .meshDefault : result, statuses)
    }
}

public struct UnknownRetryCondition: Error, Hashable, Sendable, CustomStringConvertible {
    public var name: String

    public init(name: String) {
        self.name = name
    }

    public var description: String {
        "\"\(name)\" is neither a status nor one of "
            + RetryConditions.names.map(\.0).joined(separator: ", ")
    }
}
