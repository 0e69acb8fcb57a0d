import Address
import L7
import Linux
import Mesh
import Telemetry

extension RequestRecord {
    /// What the log and the metrics tell of an exchange.
    ///
    /// - Parameters:
    ///   - service: the one that was asked for.
    ///   - cluster: the name of the destination that was chosen.
    init(_ exchange: ExchangeRecord, to service: ServiceEntry?, cluster: String?, snapshot: Snapshot) {
        let request = exchange.request
        let network = service?.service.addresses.first?.network ?? ""
        let client = exchange.client.address.flatMap {
            snapshot.workload(at: NetworkAddress(network: network, address: $0.address))
        }
        let endpoint = exchange.endpoint.flatMap { snapshot.workload(uid: $0.id) }
        self.init(
            start: WallClock.now().earlier(by: exchange.duration),
            client: .init(
                address: exchange.client.address, workload: client,
                identity: exchange.client.identity.flatMap { Identity(spiffe: $0) }),
            // What an endpoint proves, it proves in the tunnel: one that was reached is who it was expected to be.
            destination: .init(
                address: exchange.endpoint?.address, workload: endpoint,
                identity: endpoint.flatMap { $0.workload.tunnelProtocol == .hbone ? $0.identity : nil }),
            service: service, cluster: cluster)
        method = request.method
        path = request[":path"]
        authority = request.authority
        protocolName = exchange.version.rawValue
        isGRPC = request.isGRPC
        forwardedFor = request["x-forwarded-for"]
        userAgent = request["user-agent"]
        requestID = request["x-request-id"]
        status = exchange.status
        grpcStatus = exchange.grpcStatus
        flags = "\(exchange.flags)"
        details = exchange.details
        routeName = exchange.route.map { $0.rule.isEmpty ? "default" : $0.rule }
        attempts = exchange.attempts
        bytesReceived = exchange.bytesReceived
        bytesSent = exchange.bytesSent
        duration = exchange.duration
        upstreamTime = exchange.upstreamTime
        localAddress = service?.service.addresses.first.map {
            SocketAddress($0.prefix.address, exchange.client.origin.port)
        }
    }
}

extension ExchangeRecord {
    /// How the answer came about, in Envoy's words (`%RESPONSE_CODE_DETAILS%`).
    fileprivate var details: String {
        let words: [(ResponseFlags, String)] = [
            (.noRoute, "route_not_found"), (.noCluster, "cluster_not_found"),
            (.noHealthyUpstream, "no_healthy_upstream"), (.upstreamOverflow, "overflow"),
            (.faultInjected, "fault_filter_abort"), (.upstreamTimeout, "response_timeout"),
            (.upstreamConnectFailure, "upstream_reset_before_response_started{connection_failure}"),
            (.upstreamReset, "upstream_reset_before_response_started{remote_reset}"),
            (.upstreamTermination, "upstream_reset_before_response_started{connection_termination}"),
            (.upstreamProtocolError, "upstream_reset_before_response_started{protocol_error}"),
            (.downstreamTermination, "downstream_remote_disconnect"),
            (.downstreamProtocolError, "http1.codec_error"), (.streamIdle, "stream_idle_timeout"),
            (.overload, "overload"),
        ]
        if let word = words.first(where: { flags.contains($0.0) }) { return word.1 }
        return upstreamTime == nil ? "direct_response" : "via_upstream"
    }
}

extension WallClock {
    fileprivate func earlier(by duration: Duration) -> WallClock {
        let (whole, rest) = duration.components
        var (seconds, nanoseconds) = (self.seconds - whole, Int64(self.nanoseconds) - rest / 1_000_000_000)
        if nanoseconds < 0 { (seconds, nanoseconds) = (seconds - 1, nanoseconds + 1_000_000_000) }
        return WallClock(seconds: seconds, nanoseconds: Int32(truncatingIfNeeded: nanoseconds))
    }
}
