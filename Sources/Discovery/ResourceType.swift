import Mesh
import Wire

/// The types of resources that a node subscribes to, each by its wildcard.
public enum ResourceType: Hashable, Sendable, CaseIterable {
    /// Workloads and services.
    case addresses
    /// L4 policies.
    case policies
    /// The pods that this node has to capture. Only `warren-control` knows the type.
    case localPods

    public var typeURL: String {
        switch self {
        case .addresses: Istio_Workload_Address.typeURL
        case .policies: Istio_Security_Authorization.typeURL
        case .localPods: Warren_V1_LocalPod.typeURL
        }
    }

    init?(typeURL: String) {
        guard let type = Self.allCases.first(where: { $0.typeURL == typeURL }) else { return nil }
        self = type
    }
}
