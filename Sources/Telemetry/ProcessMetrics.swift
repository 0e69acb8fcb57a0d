import Linux
import Metrics

/// What is told about the process itself.
public enum ProcessMetrics {
    /// - Parameters:
    ///   - component: `ztunnel` for a node, as dashboards look for it.
    ///   - version: shown as `tag`.
    ///   - descriptorLimit: descriptors that the process may hold.
    public static func declare(
        in registry: Registry, component: String, version: String, descriptorLimit: Int
    ) {
        registry.gauges("istio_build", "Istio component build info", labels: ["component", "tag"])
            .with(component, version).set(1)
        registry.observed("process_open_fds", "Number of open file descriptors") {
            Double((try? listDirectory("/proc/self/fd").count) ?? 0)
        }
        registry.gauge("process_max_fds", "Maximum number of open file descriptors").set(descriptorLimit)
    }
}
