import Mesh
import Wire

/// The types of resources that a node or a waypoint subscribes to, each by its wildcard.
public enum ResourceType: Hashable, Sendable, CaseIterable {
    /// Workloads and services.
    case addresses
    /// L4 policies.
    case policies
    /// The pods that this node has to capture. Only `warren-control` knows the type.
    case localPods
    /// What a waypoint runs on. Only `warren-control` knows the type, and only waypoints ask for it.
    case waypointServices

    public var typeURL: String {
        switch self {
        case .addresses: Istio_Workload_Address.typeURL
        case .policies: Istio_Security_Authorization.typeURL
        case .localPods: Warren_V1_LocalPod.typeURL
        case .waypointServices: Warren_V1_WaypointService.typeURL
        }
    }

    /// What a node asks for, where it is `warren-control` that it asks.
    public static let ofNode: [ResourceType] = [.addresses, .policies, .localPods]

    init?(typeURL: String) {
        guard let type = Self.allCases.first(where: { $0.typeURL == typeURL }) else { return nil }
        self = type
    }
}
