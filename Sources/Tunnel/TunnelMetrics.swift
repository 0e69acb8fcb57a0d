import Metrics

/// What tunnels count.
struct TunnelMetrics: Sendable {
    static let shared = TunnelMetrics(.shared)

    let opened: Counter
    let failed: Counter
    let retried: Counter
    let streams: Counter
    let waitersRefused: Counter
    let bufferRefusals: Counter
    let earlyDataRefusals: Counter
    let firstBytesSent: Counter
    let firstBytesCut: Counter
    let firstBytesLost: Counter

    init(_ registry: Registry) {
        opened = registry.counter("warren_tunnels_opened", "Tunnels that were made to other nodes.")
        failed = registry.counter("warren_tunnels_failed", "Tunnels that could not be made.")
        retried = registry.counter(
            "warren_tunnel_streams_retried",
            "Connections moved to another tunnel because theirs ended unanswered.")
        streams = registry.counter("warren_tunnel_streams", "Connections that were offered to a tunnel.")
        waitersRefused = registry.counter(
            "warren_tunnel_waiters_refused", "Connections refused because too many waited for a tunnel.")
        bufferRefusals = registry.counter(
            "warren_tunnel_buffer_refusals", "Connections ended because the loop's memory was used up.")
        earlyDataRefusals = registry.counter(
            "warren_tunnel_early_data_refusals", "Streams reset because they sent too much before the answer."
        )
        firstBytesSent = registry.counter(
            "warren_tunnel_first_bytes_sent", "Connections whose first bytes went along with their CONNECT.")
        firstBytesCut = registry.counter(
            "warren_tunnel_first_bytes_cut",
            "Connections that had sent more than may go along: the rest followed after the answer.")
        firstBytesLost = registry.counter(
            "warren_tunnel_first_bytes_lost",
            "Connections ended, and not tried elsewhere, because no answer came after their first bytes were sent."
        )
    }
}
