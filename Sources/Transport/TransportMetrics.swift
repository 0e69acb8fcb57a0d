import HTTP2
import Metrics

/// What all channels of the process count together.
struct TransportMetrics: Sendable {
    static let shared = TransportMetrics(.shared)

    let opened: Counter
    let streams: Counter
    let handshakes: Counter
    let failedHandshakes: Counter
    let receivedBytes: Counter
    let sentBytes: Counter
    private let closings: Family<Counter>

    init(_ registry: Registry) {
        opened = registry.counter("warren_channels_opened", "HTTP/2 connections begun.")
        streams = registry.counter("warren_streams", "HTTP/2 streams opened, by either side.")
        handshakes = registry.counter("warren_tls_handshakes", "TLS handshakes done.")
        failedHandshakes = registry.counter("warren_tls_handshakes_failed", "TLS handshakes that failed.")
        receivedBytes = registry.counter(
            "warren_channel_received_bytes", "Bytes read from HTTP/2 connections.")
        sentBytes = registry.counter("warren_channel_sent_bytes", "Bytes written to HTTP/2 connections.")
        closings = registry.counters(
            "warren_channels_closed", "HTTP/2 connections ended, by reason.", labels: ["reason"], limit: 32)
    }

    func closed(_ reason: ChannelClose) {
        closings.with(reason.label).add()
    }
}

extension ChannelClose {
    /// A word for metrics: one for each case, whatever it carries.
    var label: String {
        switch self {
        case .local: "local"
        case .drained: "drained"
        case .peerLeft: "peer_left"
        case .peerEnded: "peer_ended"
        case .connectFailed: "connect_failed"
        case .connectTimeout: "connect_timeout"
        case .handshakeTimeout: "handshake_timeout"
        case .keepAliveTimeout: "keep_alive_timeout"
        case .socket: "socket"
        case .tls: "tls"
        case .http2: "http2"
        }
    }
}
