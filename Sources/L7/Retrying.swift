import HTTP2
import Routing

extension RetryPolicy {
    /// Whether an answer asks for another try.
    func includes(_ head: HeaderBlock) -> Bool {
        let status = head.status ?? 0
        if conditions.contains(.serverErrors), (500...599).contains(status) { return true }
        if conditions.contains(.gatewayErrors), (502...504).contains(status) { return true }
        if conditions.contains(.conflict), status == 409 { return true }
        if conditions.contains(.statuses), statuses.contains(status) { return true }
        if conditions.contains(.rateLimited), head.contains("x-envoy-ratelimited") { return true }
        guard let grpc = head["grpc-status"].flatMap({ Int($0) }) else { return false }
        let wanted: [(RetryConditions, GRPCStatusCode)] = [
            (.grpcCancelled, .cancelled), (.grpcDeadlineExceeded, .deadlineExceeded),
            (.grpcInternal, .internal),
            (.grpcResourceExhausted, .resourceExhausted), (.grpcUnavailable, .unavailable),
        ]
        return wanted.contains { conditions.contains($0.0) && $0.1.number == grpc }
    }

    /// Whether a broken exchange, or a try that took too long, asks for another one.
    var includesReset: Bool { !conditions.isDisjoint(with: [.serverErrors, .gatewayErrors, .reset]) }

    var includesConnectFailure: Bool {
        includesReset || !conditions.isDisjoint(with: [.connectFailure, .resetBeforeRequest])
    }

    func includes(_ reason: MessageClose) -> Bool {
        includesReset
            || reason == .refused && !conditions.isDisjoint(with: [.refusedStream, .resetBeforeRequest])
    }

    /// The pause before the next try: anything up to the base, twice that, and so on, up to ten times the base. That it is random keeps clients
    /// from coming back together.
    ///
    /// - Parameter attempts: tries so far.
    func pause(before attempts: Int, random: UInt64) -> Duration {
        let base = UInt64(clamping: backoff.wholeNanoseconds)
        let limit = min(base &* (UInt64(1) << UInt64(min(attempts, 5) - 1)), base &* 10)
        return .nanoseconds(Int64(clamping: limit == 0 ? 0 : random % limit))
    }
}
