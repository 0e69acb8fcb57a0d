/// The kinds that Warren reads.
public enum Kind: String, CaseIterable, Sendable {
    case namespace = "Namespace"
    case node = "Node"
    case pod = "Pod"
    case service = "Service"
    case serviceAccount = "ServiceAccount"
    case secret = "Secret"
    case configMap = "ConfigMap"
    case deployment = "Deployment"
    case endpointSlice = "EndpointSlice"
    case peerAuthentication = "PeerAuthentication"
    case authorizationPolicy = "AuthorizationPolicy"
    case gateway = "Gateway"
    case gatewayClass = "GatewayClass"
    case serviceEntry = "ServiceEntry"
    case workloadEntry = "WorkloadEntry"
    case virtualService = "VirtualService"
    case destinationRule = "DestinationRule"
    case httpRoute = "HTTPRoute"
    case grpcRoute = "GRPCRoute"
    case tcpRoute = "TCPRoute"
    case tlsRoute = "TLSRoute"
    case referenceGrant = "ReferenceGrant"

    /// The API group; empty for the core.
    public var group: String {
        switch self {
        case .namespace, .node, .pod, .service, .serviceAccount, .secret, .configMap: ""
        case .deployment: "apps"
        case .endpointSlice: "discovery.k8s.io"
        case .peerAuthentication, .authorizationPolicy: "security.istio.io"
        case .gateway, .gatewayClass, .httpRoute, .grpcRoute, .tcpRoute, .tlsRoute, .referenceGrant:
            "gateway.networking.k8s.io"
        case .serviceEntry, .workloadEntry, .virtualService, .destinationRule: "networking.istio.io"
        }
    }

    /// The versions understood, the preferred one first.
    public var versions: [String] {
        switch self {
        case .endpointSlice: ["v1", "v1beta1"]
        case .peerAuthentication, .authorizationPolicy, .gateway, .gatewayClass: ["v1", "v1beta1"]
        case .serviceEntry, .workloadEntry, .virtualService, .destinationRule: ["v1", "v1beta1", "v1alpha3"]
        case .httpRoute, .referenceGrant: ["v1", "v1beta1"]
        case .grpcRoute: ["v1", "v1alpha2"]
        case .tcpRoute: ["v1alpha2", "v1"]
        case .tlsRoute: ["v1", "v1alpha3", "v1alpha2"]
        default: ["v1"]
        }
    }

    public var isNamespaced: Bool {
        switch self {
        case .namespace, .node, .gatewayClass: false
        default: true
        }
    }

    /// What is wrong with an object's name; nil when nothing is.
    func nameRule(_ name: String) -> String? {
        switch self {
        case .namespace: Names.problem(label: name)
        case .service: Names.problem(serviceName: name)
        default: Names.problem(subdomain: name)
        }
    }
}

/// `apiVersion` in its parts.
struct APIVersion: Hashable {
    let group: String
    let version: String

    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }), let last = parts.last else {
            return nil
        }
        group = parts.count == 2 ? String(parts[0]) : ""
        version = String(last)
    }
}
