import Metrics

/// What the proxy of requests counts.
public struct L7Metrics: Sendable {
    public static let shared = L7Metrics(.shared)

    let requests: Counter
    let activeRequests: Gauge
    let refusedRequests: Counter
    let refusedConnections: Counter
    let headTimeouts: Counter
    let idleConnections: Counter
    let overloads: Counter
    let retries: Counter
    let retriesOutOfBuffer: Counter
    let retryOverflows: Counter
    let timeouts: Counter
    let faults: Counter
    let mirrored: Counter
    let mirrorsCut: Counter
    let upstreamConnections: Counter
    let upstreamFailures: Counter
    let connectionOverflows: Counter
    let ejections: Counter
    let ejectedEndpoints: Gauge
    let undetected: Counter
    let bufferRefusals: Counter

    init(_ registry: Registry) {
        requests = registry.counter("warren_http_requests", "Requests that were taken.")
        activeRequests = registry.gauge("warren_http_requests_active", "Requests under way.")
        refusedRequests = registry.counter(
            "warren_http_requests_refused",
            "HTTP/1 messages of clients that could not be read, or in two ways.")
        refusedConnections = registry.counter(
            "warren_http_connections_refused", "HTTP/2 connections ended for a mistake of the client's.")
        headTimeouts = registry.counter(
            "warren_http_head_timeouts", "Connections ended because a request's head was not whole in time.")
        idleConnections = registry.counter(
            "warren_http_connections_idle", "Clients' connections ended because they had no request for long."
        )
        overloads = registry.counter(
            "warren_http_overloads", "Requests refused because too many were under way.")
        retries = registry.counter("warren_http_retries", "Requests that were tried again.")
        retriesOutOfBuffer = registry.counter(
            "warren_http_retries_too_large",
            "Requests whose content was too large to be kept for another try.")
        retryOverflows = registry.counter(
            "warren_http_retries_overflow",
            "Requests that were not tried again because too many others of their destination were.")
        timeouts = registry.counter("warren_http_timeouts", "Requests and tries that took too long.")
        faults = registry.counter("warren_http_faults", "Failures and delays made on purpose.")
        mirrored = registry.counter("warren_http_mirrored", "Copies of requests that were sent.")
        mirrorsCut = registry.counter(
            "warren_http_mirrors_cut",
            "Copies of requests given up because their service was slower than the client.")
        upstreamConnections = registry.counter(
            "warren_http_upstream_connections", "Connections made to endpoints.")
        upstreamFailures = registry.counter(
            "warren_http_upstream_failures", "Connections to endpoints that could not be made.")
        ejections = registry.counter(
            "warren_http_ejections", "Endpoints put out for a while because of what came of requests to them."
        )
        ejectedEndpoints = registry.gauge(
            "warren_http_ejections_active",
            "Endpoints that are out, each counted by every loop that put it out.")
        connectionOverflows = registry.counter(
            "warren_http_upstream_connections_overflow",
            "Requests that waited because their destination had as many connections as it may have.")
        undetected = registry.counter(
            "warren_http_not_http", "Connections to ports of unknown protocol that were not HTTP, or silent.")
        bufferRefusals = registry.counter(
            "warren_http_buffer_refusals", "Exchanges ended because the loop's memory was used up.")
    }
}
