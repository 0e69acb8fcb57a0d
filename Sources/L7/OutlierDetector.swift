import Linux
import Routing

/// What became of one attempt, as far as it says something about its endpoint.
enum EndpointResult: Equatable {
    /// The endpoint answered, with this status or one that stands for its status of gRPC.
    case answered(Int)
    /// No connection, or one that ended before the answer was complete.
    case failed
    case timedOut
}

/// Which endpoints of a destination are put out for a while because of what came of requests to them: Envoy's arithmetic for the fields of
/// `outlierDetection` that DestinationRule has. It knows no clock; whoever has one calls `sweep` once an interval.
///
/// Failures of connections and timeouts count as the statuses 503 and 504 unless `splitsLocalOriginErrors`; then they are counted by
/// themselves.
struct OutlierDetector {
    private struct Host {
        var serverErrors = 0
        var gatewayErrors = 0
        var localFailures = 0
        /// By which the base time is multiplied; one less for each interval that found the endpoint in service.
        var multiplier = 0
        var ejected: MonotonicTime?
    }

    private enum Kind { case serverErrors, gatewayErrors, localFailures }

    let policy: OutlierDetection
    private var hosts: [String: Host] = [:]
    private(set) var ejectedCount = 0

    init(_ policy: OutlierDetection) {
        self.policy = policy
    }

    /// The endpoints there are; what was known of others is forgotten.
    mutating func update(_ ids: some Sequence<String>) {
        var new: [String: Host] = [:]
        for id in ids { new[id] = hosts[id] ?? Host() }
        hosts = new
        ejectedCount = hosts.values.count { $0.ejected != nil }
    }

    func isEjected(_ id: String) -> Bool { hosts[id]?.ejected != nil }

    /// Nobody is out, nor out longer the next time: sweeps change nothing.
    var isQuiet: Bool { hosts.values.allSatisfy { $0.ejected == nil && $0.multiplier == 0 } }

    /// - Returns: true when the endpoint is put out because of it.
    mutating func record(_ result: EndpointResult, of id: String, at now: MonotonicTime) -> Bool {
        // What was under way when an endpoint was put out says nothing new.
        guard var host = hosts[id], host.ejected == nil else { return false }
        let reached = count(result, &host)
        hosts[id] = host
        guard reached else { return false }
        return eject(id, at: now)
    }

    /// - Returns: true when a limit was reached; its count begins anew, whether the endpoint is put out or too many others are.
    private func count(_ result: EndpointResult, _ host: inout Host) -> Bool {
        let status: Int
        switch result {
        case .answered(let code):
            host.localFailures = 0
            status = code
        case .failed, .timedOut:
            if policy.splitsLocalOriginErrors {
                return step(&host.localFailures, policy.consecutiveLocalOriginFailures)
            }
            status = result == .timedOut ? 504 : 503
        }
        guard (500...599).contains(status) else {
            host.serverErrors = 0
            host.gatewayErrors = 0
            return false
        }
        var reached = false
        if (502...504).contains(status) {
            reached = step(&host.gatewayErrors, policy.consecutiveGatewayErrors)
        } else {
            host.gatewayErrors = 0
        }
        return step(&host.serverErrors, policy.consecutive5xxErrors) || reached
    }

    private func step(_ count: inout Int, _ limit: Int?) -> Bool {
        guard let limit else { return false }
        count += 1
        guard count >= limit else { return false }
        count = 0
        return true
    }

    /// One may always be out; a further one only while their share stays within the limit.
    private var mayEject: Bool {
        ejectedCount == 0 || (ejectedCount + 1) * 100 <= policy.maxEjectionPercent * hosts.count
    }

    private mutating func eject(_ id: String, at now: MonotonicTime) -> Bool {
        guard mayEject, var host = hosts[id] else { return false }
        host.ejected = now
        // Beyond the longest time a higher multiplier would only be longer in coming down.
        if policy.baseEjectionTime * host.multiplier < policy.maxEjectionTime { host.multiplier += 1 }
        hosts[id] = host
        ejectedCount += 1
        return true
    }

    /// An interval is over: those whose time is up come back with a clean record.
    ///
    /// - Returns: how many came back.
    mutating func sweep(at now: MonotonicTime) -> Int {
        var returned = 0
        for (id, var host) in hosts {
            if let since = host.ejected {
                let time = min(policy.baseEjectionTime * host.multiplier, policy.maxEjectionTime)
                guard now - since >= time else { continue }
                host = Host(multiplier: host.multiplier)
                returned += 1
            } else if host.multiplier > 0 {
                host.multiplier -= 1
            } else {
                continue
            }
            hosts[id] = host
        }
        ejectedCount -= returned
        return returned
    }
}
