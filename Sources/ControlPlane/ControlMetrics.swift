import Metrics

/// What the control component counts, under istiod's names where it has them.
struct ControlMetrics {
    static let shared = ControlMetrics()

    let connected = Registry.shared.gauge("pilot_xds", "Proxies connected to the discovery service.")
    let pushes = Registry.shared.counters(
        "pilot_xds_pushes", "Responses sent to proxies, by type of resource.", labels: ["type"])
    let rejects = Registry.shared.counters(
        "pilot_total_xds_rejects", "Responses that proxies refused, by type of resource.", labels: ["type"])
    let convergence = Registry.shared.histogram(
        "pilot_proxy_convergence_time",
        "Seconds from a change of the configuration to a proxy's answer to it.",
        bounds: [0.1, 0.5, 1, 3, 5, 10, 20, 30])
    let requests = Registry.shared.counter("citadel_server_csr_count", "Certificate requests received.")
    let issued = Registry.shared.counter(
        "citadel_server_success_cert_issuance_count", "Certificates issued.")
    let unparsable = Registry.shared.counter(
        "citadel_server_csr_parsing_err_count", "Certificate requests that were none.")
    let notEntitled = Registry.shared.counter(
        "citadel_server_id_extraction_err_count",
        "Certificate requests for what the caller is not entitled to.")
    let unauthenticated = Registry.shared.counter(
        "citadel_server_authentication_failure_count", "Calls whose caller could not be told.")
    let rootExpiry = Registry.shared.gauge(
        "citadel_server_root_cert_expiry_timestamp",
        "When the root certificate ends, in seconds since the epoch.")
    let generation = Registry.shared.gauge(
        "warren_control_configuration_generation", "Changes of the configuration since the start.")
    let errors = Registry.shared.gauge(
        "warren_control_configuration_errors", "Errors in the configuration as it is now.")
    let warnings = Registry.shared.gauge(
        "warren_control_configuration_warnings", "Warnings about the configuration as it is now.")
    let workloads = Registry.shared.gauge("warren_control_workloads", "Workloads that proxies are told of.")
    let services = Registry.shared.gauge("pilot_services", "Services that proxies are told of.")
}
