import Address
import Mesh
import Protobuf

private let tunnelProtocols = EnumTable<Istio_Workload_TunnelProtocol, Workload.TunnelProtocol>([
    .none: .none, .hbone: .hbone,
])
private let kinds = EnumTable<Istio_Workload_WorkloadType, Workload.Kind>([
    .deployment: .deployment, .cronjob: .cronJob, .pod: .pod, .job: .job,
])
private let statuses = EnumTable<Istio_Workload_WorkloadStatus, Workload.Status>([
    .healthy: .healthy, .unhealthy: .unhealthy,
])
private let networkModes = EnumTable<Istio_Workload_NetworkMode, Workload.NetworkMode>([
    .standard: .standard, .hostNetwork: .hostNetwork,
])
private let applicationProtocols =
    EnumTable<Istio_Workload_ApplicationTunnel.ProtocolEnum, Workload.ApplicationTunnel.Kind>([
        .none: .none, .proxy: .proxy,
    ])

extension Workload {
    /// Takes a workload from the wire; empty fields with a default get it (`ztunnel.md` §3.1).
    ///
    /// - Throws: for what the model cannot express; nothing is dropped.
    public init(_ wire: Istio_Workload_Workload) throws(WireError) {
        guard !wire.uid.isEmpty else { throw WireError("uid", "missing") }
        self.init(
            uid: wire.uid, name: wire.name, namespace: try identityPart(wire.namespace, "namespace"),
            addresses: try wire.addresses.converted("addresses") { (bytes) throws(WireError) in
                try IPAddress(wire: bytes)
            },
            hostname: wire.hostname, network: wire.network,
            tunnelProtocol: try tunnelProtocols.model(wire.tunnelProtocol, "tunnel_protocol"),
            trustDomain: wire.trustDomain.isEmpty
                ? "cluster.local" : try identityPart(wire.trustDomain, "trust_domain"),
            serviceAccount: wire.serviceAccount.isEmpty
                ? "default" : try identityPart(wire.serviceAccount, "service_account"),
            waypoint: wire.hasWaypoint
                ? try within("waypoint") { () throws(WireError) in try GatewayAddress(wire.waypoint) } : nil,
            networkGateway: wire.hasNetworkGateway
                ? try within("network_gateway") { () throws(WireError) in
                    try GatewayAddress(wire.networkGateway)
                } : nil,
            node: wire.node, canonicalName: wire.canonicalName, canonicalRevision: wire.canonicalRevision,
            kind: kinds.model(wire.workloadType, or: .pod), workloadName: wire.workloadName,
            nativeTunnel: wire.nativeTunnel,
            applicationTunnel: wire.hasApplicationTunnel
                ? try within("application_tunnel") { () throws(WireError) in
                    try ApplicationTunnel(wire.applicationTunnel)
                } : nil,
            services: try Self.services(wire.services),
            authorizationPolicies: try wire.authorizationPolicies.converted("authorization_policies") {
                (text) throws(WireError) in try namespacedName(text)
            }.sorted(),
            status: try statuses.model(wire.status, "status"),
            clusterID: wire.clusterID.isEmpty ? "Kubernetes" : wire.clusterID,
            locality: Locality(
                region: wire.locality.region, zone: wire.locality.zone, subzone: wire.locality.subzone),
            networkMode: try networkModes.model(wire.networkMode, "network_mode"),
            capacity: wire.hasCapacity ? wire.capacity.value : 1,
            encryptsOnSameNode: try Self.extension(wire.extensions).encryptOnSameNode)
    }

    /// What we say in the extension of our own; others' are not for us.
    private static func `extension`(
        _ wire: [Istio_Workload_Extension]
    ) throws(WireError) -> Warren_V1_WorkloadExtension {
        var found = Warren_V1_WorkloadExtension()
        for (index, one) in wire.enumerated() where one.config.isA(Warren_V1_WorkloadExtension.self) {
            found = try within("extensions[\(index)].config") { () throws(WireError) in
                try Warren_V1_WorkloadExtension(unpackingAny: one.config)
            }
        }
        return found
    }

    private static func services(
        _ wire: [String: Istio_Workload_PortList]
    ) throws(WireError) -> [NamespacedName: [UInt16: UInt16]] {
        var services: [NamespacedName: [UInt16: UInt16]] = [:]
        for (key, list) in wire {
            let name = try within("services[\"\(key)\"]") { () throws(WireError) in try namespacedName(key) }
            let ports = try list.ports.converted("services[\"\(key)\"].ports") { (wire) throws(WireError) in
                (try port(wire.servicePort, "service_port"), try port(wire.targetPort, "target_port"))
            }
            // One number twice is TCP's and UDP's of a Kubernetes Service; the last counts, as in ztunnel.
            services[name] = Dictionary(ports, uniquingKeysWith: { $1 })
        }
        return services
    }
}

extension Workload.ApplicationTunnel {
    init(_ wire: Istio_Workload_ApplicationTunnel) throws(WireError) {
        self.init(
            kind: try applicationProtocols.model(wire.protocol, "protocol"),
            port: try optionalPort(wire.port, "port") ?? 0)
    }
}

extension Istio_Workload_Workload {
    /// Writes a workload as istiod does: fields that hold their default are left out.
    public init(_ workload: Workload) {
        self.init()
        uid = workload.uid
        name = workload.name
        namespace = workload.namespace
        addresses = workload.addresses.map(\.bytes)
        hostname = workload.hostname
        network = workload.network
        tunnelProtocol = tunnelProtocols.wire(workload.tunnelProtocol)
        trustDomain = workload.trustDomain == "cluster.local" ? "" : workload.trustDomain
        serviceAccount = workload.serviceAccount
        if let gateway = workload.waypoint { waypoint = Istio_Workload_GatewayAddress(gateway) }
        if let gateway = workload.networkGateway { networkGateway = Istio_Workload_GatewayAddress(gateway) }
        node = workload.node
        canonicalName = workload.canonicalName
        canonicalRevision = workload.canonicalRevision
        workloadType = kinds.wire(workload.kind)
        workloadName = workload.workloadName
        nativeTunnel = workload.nativeTunnel
        if let tunnel = workload.applicationTunnel {
            applicationTunnel.protocol = applicationProtocols.wire(tunnel.kind)
            applicationTunnel.port = UInt32(tunnel.port)
        }
        for (service, ports) in workload.services {
            var list = Istio_Workload_PortList()
            list.ports = ports.sorted { $0.key < $1.key }.map { pair in
                var port = Istio_Workload_Port()
                port.servicePort = UInt32(pair.key)
                port.targetPort = UInt32(pair.value)
                return port
            }
            services[service.description] = list
        }
        authorizationPolicies = workload.authorizationPolicies.map(\.description)
        status = statuses.wire(workload.status)
        clusterID = workload.clusterID
        if workload.locality != Locality() {
            locality.region = workload.locality.region
            locality.zone = workload.locality.zone
            locality.subzone = workload.locality.subzone
        }
        networkMode = networkModes.wire(workload.networkMode)
        if workload.capacity != 1 { capacity.value = workload.capacity }
        if workload.encryptsOnSameNode {
            var own = Warren_V1_WorkloadExtension()
            own.encryptOnSameNode = true
            var carrier = Istio_Workload_Extension()
            carrier.name = "warren"
            carrier.config = Google_Protobuf_Any(message: own)
            extensions = [carrier]
        }
    }
}
