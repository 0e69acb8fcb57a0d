import Address
import Mesh
import Telemetry

extension JSONWriter {
    package mutating func service(_ entry: ServiceEntry) {
        let service = entry.service
        object { json in
            json.member("name", service.name)
            json.member("namespace", service.namespace)
            json.member("hostname", service.hostname)
            let (single, ranges) = service.addressesBySize
            json.arrayMember("vips", of: single)
            json.ports("ports", service.ports.map { ($0.servicePort, $0.targetPort) })
            json.objectMember("endpoints") { json in
                for endpoint in entry.endpoints { json.endpoint(endpoint) }
            }
            if !service.subjectAltNames.isEmpty {
                json.arrayMember("subjectAltNames", of: service.subjectAltNames)
            }
            if !ranges.isEmpty { json.arrayMember("cidrVips", of: ranges) }
            if let waypoint = service.waypoint { json.gateway("waypoint", waypoint) }
            if !service.weightedWaypoints.isEmpty {
                json.arrayMember("weightedWaypoints", of: service.weightedWaypoints) { json, candidate in
                    json.object { json in
                        json.gateway("destination", candidate.destination)
                        json.member("weight", candidate.weight)
                    }
                }
            }
            if service.loadBalancing != Service.LoadBalancing() {
                json.objectMember("loadBalancer") { json in
                    json.arrayMember(
                        "routingPreferences", of: service.loadBalancing.routingPreference.map(\.dumpName))
                    json.member("mode", service.loadBalancing.mode.dumpName)
                    json.member(
                        "healthPolicy", service.loadBalancing.allowsUnhealthy ? "AllowAll" : "OnlyHealthy")
                }
            }
            if let families = service.ipFamilies.dumpName { json.member("ipFamilies", families) }
            if service.isCanonical { json.member("canonical", true) }
            if service.visibility == .namespace { json.member("visibility", "Namespace") }
        }
    }

    private mutating func endpoint(_ endpoint: Endpoint) {
        let workload = endpoint.workload.workload
        objectMember(workload.uid) { json in
            json.member("workloadUid", workload.uid)
            json.ports("port", endpoint.ports.map { ($0.key, $0.value) })
            json.member("status", workload.status == .healthy ? "Healthy" : "Unhealthy")
        }
    }
}

extension Service {
    /// `network/address` of single addresses, `network/address/length` of ranges.
    fileprivate var addressesBySize: (single: [String], ranges: [String]) {
        var found: (single: [String], ranges: [String]) = ([], [])
        for address in addresses {
            let prefix = address.prefix
            if prefix.length == prefix.address.bitCount {
                found.single.append("\(address.network)/\(prefix.address)")
            } else {
                found.ranges.append("\(address.network)/\(prefix.address)/\(prefix.length)")
            }
        }
        return found
    }
}

extension Service.LoadBalancing.Scope {
    fileprivate var dumpName: String {
        switch self {
        case .region: "Region"
        case .zone: "Zone"
        case .subzone: "Subzone"
        case .node: "Node"
        case .cluster: "Cluster"
        case .network: "Network"
        }
    }
}

extension Service.LoadBalancing.Mode {
    fileprivate var dumpName: String {
        switch self {
        case .unspecified: "Standard"
        case .strict: "Strict"
        case .failover: "Failover"
        case .passthrough: "Passthrough"
        }
    }
}

extension Service.IPFamilies {
    /// Nil for what goes without saying.
    fileprivate var dumpName: String? {
        switch self {
        case .automatic: nil
        case .ipv4Only: "IPv4"
        case .ipv6Only: "IPv6"
        case .dual: "Dual"
        }
    }
}
