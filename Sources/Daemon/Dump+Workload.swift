import Mesh
import Telemetry

// The shapes of ztunnel's `/config_dump`, which `istioctl ztunnel-config` and `warren` decode (ztunnel.md §7.4): camel
// case, and members that hold their default are left out of workloads and services.

extension JSONWriter {
    package mutating func workload(_ workload: Workload) {
        object { json in
            json.arrayMember("workloadIps", of: workload.addresses.map(\.description))
            if let waypoint = workload.waypoint { json.gateway("waypoint", waypoint) }
            if let gateway = workload.networkGateway { json.gateway("networkGateway", gateway) }
            json.member("protocol", workload.tunnelProtocol == .hbone ? "HBONE" : "TCP")
            json.member("networkMode", workload.networkMode == .standard ? "Standard" : "HostNetwork")
            json.member("uid", workload.uid)
            json.member("name", workload.name)
            json.member("namespace", workload.namespace)
            json.memberIfAny("trustDomain", workload.trustDomain)
            json.memberIfAny("serviceAccount", workload.serviceAccount)
            json.memberIfAny("network", workload.network)
            json.memberIfAny("workloadName", workload.workloadName)
            json.member("workloadType", workload.kind.dumpName)
            json.memberIfAny("canonicalName", workload.canonicalName)
            json.memberIfAny("canonicalRevision", workload.canonicalRevision)
            json.memberIfAny("hostname", workload.hostname)
            json.memberIfAny("node", workload.node)
            if workload.nativeTunnel { json.member("nativeTunnel", true) }
            if let tunnel = workload.applicationTunnel {
                json.objectMember("applicationTunnel") { json in
                    json.member("protocol", tunnel.kind == .proxy ? "PROXY" : "NONE")
                    if tunnel.port != 0 { json.member("port", tunnel.port) }
                }
            }
            if !workload.authorizationPolicies.isEmpty {
                json.arrayMember(
                    "authorizationPolicies", of: workload.authorizationPolicies.map(\.description))
            }
            json.member("status", workload.status == .healthy ? "Healthy" : "Unhealthy")
            json.memberIfAny("clusterId", workload.clusterID)
            if workload.locality != Locality() {
                json.objectMember("locality") { json in
                    json.memberIfAny("region", workload.locality.region)
                    json.memberIfAny("zone", workload.locality.zone)
                    json.memberIfAny("subzone", workload.locality.subzone)
                }
            }
            if !workload.services.isEmpty {
                json.arrayMember("services", of: workload.services.keys.sorted().map(\.description))
            }
            if workload.capacity != 1 { json.member("capacity", workload.capacity) }
            if workload.encryptsOnSameNode { json.member("sameNode", "encrypt") }
        }
    }

    mutating func gateway(_ name: String, _ gateway: GatewayAddress) {
        objectMember(name) { json in
            json.member("destination", gateway.dumpDestination)
            json.member("hboneMtlsPort", gateway.hbonePort)
        }
    }

    /// Leaves an empty text out.
    mutating func memberIfAny(_ name: String, _ value: String) {
        if !value.isEmpty { member(name, value) }
    }

    /// Port numbers as JSON has to name them: `{"80": 8080}`.
    mutating func ports(_ name: String, _ ports: [(UInt16, UInt16)]) {
        objectMember(name) { json in
            for (port, target) in ports.sorted(by: { $0.0 < $1.0 }) { json.member("\(port)", target) }
        }
    }
}

extension GatewayAddress {
    /// `network/address`, whose network may be empty, or `namespace/hostname`.
    var dumpDestination: String {
        switch destination {
        case .hostname(let name): name.description
        case .address(let address): address.description
        }
    }
}

extension Workload.Kind {
    var dumpName: String {
        switch self {
        case .deployment: "deployment"
        case .cronJob: "cronjob"
        case .pod: "pod"
        case .job: "job"
        }
    }
}
