import Address
import Manifests
import Mesh

/// The service that proxies see; nil for what they are not told of (names that only point elsewhere).
func compile(_ service: ServiceManifest, _ index: ObjectIndex) -> Service? {
    guard service.type != .externalName else { return nil }
    let waypoint = index.waypoints.binding(service.meta, .service)
    return Service(
        name: service.meta.name, namespace: service.meta.namespace, hostname: index.hostname(of: service),
        addresses: service.clusterIPs.map {
            Service.VirtualAddress(network: index.network, prefix: Prefix($0))
        },
        ports: service.tcpPorts.map { port in
            let target: UInt16 = if case .number(let number) = port.target { number } else { 0 }
            return Service.Port(
                servicePort: port.port, targetPort: target, appProtocol: appProtocol(of: port))
        },
        waypoint: waypoint.address,
        weightedWaypoints: index.waypoints.weighted(service.meta, primary: waypoint),
        loadBalancing: loadBalancing(of: service, index), ipFamilies: families(of: service), isCanonical: true
    )
}

extension ServiceManifest {
    /// The mesh carries TCP; other transports go their own way.
    var tcpPorts: [Port] { ports.filter { $0.transport == .tcp } }
}

private func families(of service: ServiceManifest) -> Service.IPFamilies {
    switch (service.families.contains(.ipv4), service.families.contains(.ipv6)) {
    case (true, true): .dual
    case (true, false): .ipv4Only
    case (false, true): .ipv6Only
    case (false, false): .automatic
    }
}

private func loadBalancing(of service: ServiceManifest, _ index: ObjectIndex) -> Service.LoadBalancing {
    var result = Service.LoadBalancing(allowsUnhealthy: service.publishesNotReadyAddresses)
    if service.staysOnNode {
        result.mode = .strict
        result.routingPreference = [.node]
        return result
    }
    result = loadBalancing(wish: service.trafficDistribution, of: service.meta, index)
    result.allowsUnhealthy = service.publishesNotReadyAddresses
    return result
}

/// How endpoints are preferred: by the object's field, or its annotation, or its namespace's.
func loadBalancing(wish: String?, of meta: ObjectMeta, _ index: ObjectIndex) -> Service.LoadBalancing {
    var result = Service.LoadBalancing()
    let annotation = "networking.istio.io/traffic-distribution"
    let wish =
        wish ?? meta.annotations[annotation] ?? index.namespaces[meta.namespace]?.meta.annotations[annotation]
    switch wish?.lowercased() {
    case "preferclose", "prefersamezone":
        result.mode = .failover
        result.routingPreference = [.network, .region, .zone]
    case "prefersamenode":
        result.mode = .failover
        result.routingPreference = [.network, .region, .zone, .subzone, .node]
    default: break
    }
    return result
}

/// `appProtocol`, or else the word that a port's name begins with.
private func appProtocol(of port: ServiceManifest.Port) -> Service.AppProtocol {
    let word =
        port.name.split(separator: "-", omittingEmptySubsequences: false).first.map { $0.lowercased() } ?? ""
    return appProtocol(declared: port.appProtocol?.lowercased() ?? word, name: port.name, port: port.port)
}

func appProtocol(declared: String, name: String, port: UInt16) -> Service.AppProtocol {
    switch declared {
    case "http", "kubernetes.io/ws": .http11
    // `grpc-web` is HTTP/1 to a proxy, yet as a port's name it ends at the dash.
    case "grpc": name.lowercased().hasPrefix("grpc-web") ? .http11 : .grpc
    case "grpc-web": .http11
    case "http2", "kubernetes.io/h2c": .http2
    case "tcp", "mongo", "mysql", "redis": .tcp
    case "tls", "https", "kubernetes.io/wss": .tls
    // Protocols in which the server speaks first: nothing may wait for the client's first bytes.
    default: [25, 53, 3306, 27017].contains(port) ? .tcp : .unknown
    }
}
