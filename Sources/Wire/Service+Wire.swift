import Address
import Mesh
import Protobuf

private let appProtocols = EnumTable<Istio_Workload_AppProtocol, Service.AppProtocol>([
    .unknown: .unknown, .http11: .http11, .http2: .http2, .grpc: .grpc, .tcp: .tcp, .tls: .tls,
])
private let ipFamilyChoices = EnumTable<Istio_Workload_IPFamilies, Service.IPFamilies>([
    .automatic: .automatic, .ipv4Only: .ipv4Only, .ipv6Only: .ipv6Only, .dual: .dual,
])
private let visibilities = EnumTable<Istio_Workload_Visibility, Service.Visibility>([
    .public: .everywhere, .namespace: .namespace,
])
/// UNSPECIFIED_SCOPE is no scope: a resource that holds it is refused.
private let scopes = EnumTable<Istio_Workload_LoadBalancing.Scope, Service.LoadBalancing.Scope>([
    .region: .region, .zone: .zone, .subzone: .subzone, .node: .node, .cluster: .cluster, .network: .network,
])
private let modes = EnumTable<Istio_Workload_LoadBalancing.Mode, Service.LoadBalancing.Mode>([
    .unspecifiedMode: .unspecified, .strict: .strict, .failover: .failover, .passthrough: .passthrough,
])
private let healthPolicies = EnumTable<Istio_Workload_LoadBalancing.HealthPolicy, Bool>([
    .onlyHealthy: false, .allowAll: true,
])

extension Service {
    /// Takes a service from the wire.
    ///
    /// - Throws: for what the model cannot express; nothing is dropped.
    public init(_ wire: Istio_Workload_Service) throws(WireError) {
        let key = try namespacedName(
            namespace: wire.namespace, name: wire.hostname, nameField: "hostname")
        self.init(
            name: wire.name, namespace: key.namespace, hostname: key.name,
            addresses: try wire.addresses.converted("addresses") { (wire) throws(WireError) in
                VirtualAddress(
                    network: wire.network,
                    prefix: try Prefix(wire: wire.address, length: wire.hasLength ? wire.length : nil))
            },
            ports: try wire.ports.converted("ports") { (wire) throws(WireError) in
                Port(
                    servicePort: try port(wire.servicePort, "service_port"),
                    targetPort: try optionalPort(wire.targetPort, "target_port") ?? 0,
                    appProtocol: appProtocols.model(wire.appProtocol, or: .unknown))
            },
            subjectAltNames: wire.subjectAltNames,
            waypoint: wire.hasWaypoint
                ? try within("waypoint") { () throws(WireError) in try GatewayAddress(wire.waypoint) } : nil,
            weightedWaypoints: try wire.weightedWaypoints.converted("weighted_waypoints") {
                (wire) throws(WireError) in
                WeightedWaypoint(
                    destination: try within("destination") { () throws(WireError) in
                        try GatewayAddress(wire.destination)
                    },
                    weight: wire.weight)
            },
            loadBalancing: try within("load_balancing") { () throws(WireError) in
                LoadBalancing(
                    routingPreference: try wire.loadBalancing.routingPreference.converted(
                        "routing_preference"
                    ) { (scope) throws(WireError) in try scopes.model(scope, "") },
                    mode: try modes.model(wire.loadBalancing.mode, "mode"),
                    allowsUnhealthy: try healthPolicies.model(
                        wire.loadBalancing.healthPolicy, "health_policy"))
            },
            ipFamilies: try ipFamilyChoices.model(wire.ipFamilies, "ip_families"),
            isCanonical: wire.canonical, visibility: try visibilities.model(wire.visibility, "visibility"))
    }
}

extension Istio_Workload_Service {
    public init(_ service: Service) {
        self.init()
        name = service.name
        namespace = service.namespace
        hostname = service.hostname
        addresses = service.addresses.map { address in
            var wire = Istio_Workload_NetworkAddress()
            wire.network = address.network
            wire.address = address.prefix.address.bytes
            if address.prefix.length != address.prefix.address.bitCount {
                wire.length = UInt32(address.prefix.length)
            }
            return wire
        }
        ports = service.ports.map { port in
            var wire = Istio_Workload_Port()
            wire.servicePort = UInt32(port.servicePort)
            wire.targetPort = UInt32(port.targetPort)
            wire.appProtocol = appProtocols.wire(port.appProtocol)
            return wire
        }
        subjectAltNames = service.subjectAltNames
        if let gateway = service.waypoint { waypoint = Istio_Workload_GatewayAddress(gateway) }
        weightedWaypoints = service.weightedWaypoints.map { weighted in
            var wire = Istio_Workload_WeightedWaypoint()
            wire.destination = Istio_Workload_GatewayAddress(weighted.destination)
            wire.weight = weighted.weight
            return wire
        }
        if service.loadBalancing != Service.LoadBalancing() {
            loadBalancing.routingPreference = service.loadBalancing.routingPreference.map(scopes.wire)
            loadBalancing.mode = modes.wire(service.loadBalancing.mode)
            loadBalancing.healthPolicy = healthPolicies.wire(service.loadBalancing.allowsUnhealthy)
        }
        ipFamilies = ipFamilyChoices.wire(service.ipFamilies)
        canonical = service.isCanonical
        visibility = visibilities.wire(service.visibility)
    }
}
