import Address

/// Why a connection ended. Every connection ends with exactly one, which the access log, the metrics and `warren explain`
/// share. The texts are ztunnel's where it has one: users and alerts look for them.
///
/// Indirect, for every connection has room for three of them as long as it lives, and nearly all end without any text.
public indirect enum CloseReason: Hashable, Sendable {
    /// Both sides ended their direction.
    case completed
    /// The client, or what stands before it, reset the connection.
    case resetByClient
    case resetByServer
    case deniedByPolicy(NamespacedName)
    /// Allow policies exist and none of them names the peer.
    case unmatchedByAllow
    /// A policy that the workload names has not arrived; unknown rules are not taken for permission.
    case missingPolicy(NamespacedName)
    /// It was permitted when it began and no longer is.
    case policyChanged
    case drained
    /// The workload left the mesh, or its namespace is gone.
    case workloadRemoved
    /// It was addressed to the proxy's own listeners.
    case recursiveCall
    case unknownLocalWorkload(String)
    case noHealthyUpstream(SocketAddress)
    case unknownWaypoint(String)
    case unknownNetworkGateway(String)
    case connectFailed(String)
    case connectTimedOut
    /// The HBONE port did not answer in time: often somebody's firewall.
    case hboneTimedOut
    case tlsFailed(String)
    /// No usable certificate of our own.
    case identityUnavailable(String)
    case http2Failed(String)
    /// The peer answered CONNECT with another status than 200; `reason` when it is one of ours and says why.
    case refusedByPeer(status: Int, reason: String)
    /// The first bytes went along with the CONNECT, and no answer came that says whether an application has them: so nothing
    /// else was tried.
    case unanswered(String)
    case notConnect(method: String)
    case invalidAuthority(String)
    case destinationMismatch(requested: String, actual: String)
    case unknownTarget(String)
    /// A waypoint was asked for what it does not stand before.
    case notServed(String)
    /// The loopback, a link's own addresses, or others that no waypoint dials, whatever names them.
    case forbiddenDestination(String)
    case failed(String)
    /// A budget of the workload or of the node is spent.
    case limitReached(String)

    /// `response_flags` of the metrics.
    public var responseFlag: String {
        switch self {
        case .completed, .resetByClient, .resetByServer, .drained, .workloadRemoved: "-"
        case .deniedByPolicy, .unmatchedByAllow, .missingPolicy, .policyChanged: "DENY"
        case .tlsFailed: "TLS_FAILURE"
        case .http2Failed: "H2_HANDSHAKE_FAILURE"
        case .hboneTimedOut: "NETWORK_POLICY"
        case .identityUnavailable: "IDENTITY_ERROR"
        default: "CONNECT"
        }
    }

    /// Whether it goes to the log as an error.
    public var isError: Bool {
        switch self {
        case .completed, .resetByClient, .resetByServer: false
        default: true
        }
    }

    /// The status that an HBONE server answers a CONNECT with when it ends for this reason before the 200.
    public var hboneStatus: Int {
        switch self {
        case .notConnect, .invalidAuthority, .destinationMismatch, .notServed, .forbiddenDestination: 400
        case .deniedByPolicy, .unmatchedByAllow, .missingPolicy, .policyChanged: 401
        // A verdict goes on as what it is: another waypoint would hear the same.
        case .refusedByPeer(401, _): 401
        default: 503
        }
    }
}

extension CloseReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .completed: "complete"
        case .resetByClient: "connection reset by the client"
        case .resetByServer: "connection reset by the server"
        case .deniedByPolicy(let name):
            "connection closed due to policy rejection: explicitly denied by: \(name)"
        case .unmatchedByAllow:
            "connection closed due to policy rejection: allow policies exist, but none allowed"
        case .missingPolicy(let name):
            "connection closed due to policy rejection: policy \(name) is attached but has not arrived"
        case .policyChanged: "connection closed due to policy change"
        case .drained: "connection closed due to connection drain"
        case .workloadRemoved: "connection closed: the workload left the mesh"
        case .recursiveCall: "attempted recursive call to ourselves"
        case .unknownLocalWorkload(let who):
            "failed to fetch information about local workload: \(who)"
        case .noHealthyUpstream(let address): "no healthy upstream: \(address)"
        case .unknownWaypoint(let what): "unknown waypoint: \(what)"
        case .unknownNetworkGateway(let what): "unknown network gateway: \(what)"
        case .connectFailed(let what): "connection failed: \(what)"
        case .connectTimedOut: "connection failed: deadline has elapsed"
        case .hboneTimedOut:
            "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed"
        case .tlsFailed(let what): "tls error: \(what)"
        case .identityUnavailable(let what): "identity error: \(what)"
        case .http2Failed(let what): "http2 handshake failed: \(what)"
        case .refusedByPeer(let status, let reason):
            "http status: \(status) \(statusText(status))" + (reason.isEmpty ? "" : " (\(reason))")
        case .unanswered(let what): "no answer after the first bytes were sent, so not tried again: \(what)"
        case .notConnect(let method): "expected method CONNECT, got \(method)"
        case .invalidAuthority(let text): "invalid CONNECT address \(text)"
        case .destinationMismatch(let requested, let actual): "ip mismatch: \(requested) != \(actual)"
        case .unknownTarget(let what): "unknown target: \(what)"
        case .notServed(let what): "\(what) is not served by this waypoint"
        case .forbiddenDestination(let what): "a waypoint does not connect to \(what)"
        case .failed(let what): what
        case .limitReached(let what): "limit reached: \(what)"
        }
    }
}

private func statusText(_ status: Int) -> String {
    switch status {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 503: "Service Unavailable"
    default: ""
    }
}
