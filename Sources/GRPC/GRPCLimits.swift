import Metrics

/// What one call may hold.
public struct GRPCLimits: Hashable, Sendable {
    /// Bytes of one message that comes.
    public var message: Int
    /// Bytes that may wait to be sent, beside one message. An application that heeds `isReady` never gets here.
    public var queue = 64 << 20

    public init(message: Int) {
        self.message = message
    }

    /// A client trusts the server that it has verified: a first xDS response of a large mesh is large.
    public static let client = GRPCLimits(message: 200 << 20)
    public static let server = GRPCLimits(message: 4 << 20)
}

/// What all calls of the process count together.
struct GRPCMetrics: Sendable {
    static let shared = GRPCMetrics(.shared)

    private let calls: Family<Counter>
    let refusedConnections: Counter
    let evictedConnections: Counter

    init(_ registry: Registry) {
        calls = registry.counters(
            "warren_grpc_calls", "gRPC calls ended, by side and status.", labels: ["side", "code"], limit: 64)
        refusedConnections = registry.counter(
            "warren_grpc_connections_refused",
            "Connections closed because a gRPC server had its limit of them.")
        evictedConnections = registry.counter(
            "warren_grpc_connections_evicted",
            "Connections without a call that a gRPC server closed to make room for others.")
    }

    func ended(side: String, _ code: GRPCStatus.Code) {
        calls.with(side, "\(code)").add()
    }
}
