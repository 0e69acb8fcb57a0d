import Address
import Manifests
import Mesh

/// The services and endpoints of ServiceEntries and WorkloadEntries.
struct ServiceEntryIndex {
    private(set) var services: [Service] = []
    private(set) var workloads: [Workload] = []
    /// Those that select workloads, by namespace.
    private var selecting: [String: [ServiceEntryManifest]] = [:]

    private let clusterID: String

    init(_ index: ObjectIndex) {
        clusterID = index.environment.clusterID
        let cluster = Set(
            index.services.values.joined().map { "\($0.meta.namespace)/\(index.hostname(of: $0))" })
        var owners: [String: ServiceEntryManifest] = [:]
        // The oldest of a namespace has the host, and a Service has it before any ServiceEntry.
        for entry in index.serviceEntries.sorted(by: { $0.meta.isOlder(than: $1.meta) }) {
            for host in entry.hosts {
                let key = "\(entry.meta.namespace)/\(host)"
                guard !cluster.contains(key), owners[key] == nil else { continue }
                owners[key] = entry
            }
            if entry.selector != nil { selecting[entry.meta.namespace, default: []].append(entry) }
        }
        let taken = owners.sorted { $0.key < $1.key }
        let addresses = AutomaticAddresses(taken.map(\.value).filter(\.wantsAddress), index.serviceEntries)
        let clusterHosts = Set(cluster.compactMap { $0.split(separator: "/").last.map(String.init) })
        var canonical: [String: ServiceEntryManifest] = [:]
        for (key, entry) in taken {
            guard let host = key.split(separator: "/").last.map(String.init), !clusterHosts.contains(host)
            else { continue }
            if canonical[host].map({ entry.meta.isOlder(than: $0.meta) }) ?? true { canonical[host] = entry }
        }
        for (key, entry) in taken {
            guard let host = key.split(separator: "/").last.map(String.init) else { continue }
            services.append(
                service(
                    entry, host, isCanonical: canonical[host]?.meta == entry.meta, addresses[entry, host],
                    index))
            workloads += endpoints(entry, host, index)
        }
        workloads = merged(workloads)
        for entry in index.workloadEntries { workloads.append(workload(entry, index)) }
    }

    /// What a pod serves because a ServiceEntry selects it.
    func services(of meta: ObjectMeta, labels: [String: String], ports own: [String: UInt16] = [:])
        -> [NamespacedName: [UInt16: UInt16]]
    {
        var result: [NamespacedName: [UInt16: UInt16]] = [:]
        for entry in selecting[meta.namespace] ?? [] {
            guard let selector = entry.selector, !selector.isEmpty,
                WorkloadSelector(matchLabels: selector).matches(labels)
            else { continue }
            for host in entry.hosts {
                result[NamespacedName(namespace: meta.namespace, name: host)] = entry.targets(own)
            }
        }
        return result
    }

    /// Of an endpoint that a ServiceEntry writes itself.
    func uid(of endpoint: WorkloadEndpoint, in entry: ServiceEntryManifest) -> String {
        "\(clusterID)/networking.istio.io/ServiceEntry/\(entry.meta.namespace)/\(entry.meta.name)/\(endpoint.address)"
    }

    func uid(of entry: WorkloadEntryManifest) -> String {
        "\(clusterID)/networking.istio.io/WorkloadEntry/\(entry.meta.namespace)/\(entry.meta.name)"
    }

    private func service(
        _ entry: ServiceEntryManifest, _ host: String, isCanonical: Bool, _ automatic: IPAddress?,
        _ index: ObjectIndex
    ) -> Service {
        let prefixes = entry.addresses.isEmpty ? automatic.map { [Prefix($0)] } ?? [] : entry.addresses
        let waypoint = index.waypoints.binding(entry.meta, .service)
        var balancing = loadBalancing(wish: nil, of: entry.meta, index)
        if entry.resolution == .none {
            balancing = Service.LoadBalancing(mode: .passthrough, allowsUnhealthy: true)
        }
        return Service(
            name: entry.meta.name, namespace: entry.meta.namespace, hostname: host,
            addresses: prefixes.map { Service.VirtualAddress(network: index.network, prefix: $0) },
            ports: entry.tcpPorts.map { port in
                Service.Port(
                    servicePort: port.number, targetPort: port.targetPort ?? port.number,
                    appProtocol: appProtocol(
                        declared: port.protocolName.lowercased(), name: "", port: port.number))
            },
            subjectAltNames: entry.subjectAltNames, waypoint: waypoint.address,
            weightedWaypoints: index.waypoints.weighted(entry.meta, primary: waypoint),
            loadBalancing: balancing,
            isCanonical: isCanonical)
    }

    private func endpoints(_ entry: ServiceEntryManifest, _ host: String, _ index: ObjectIndex) -> [Workload]
    {
        let key = NamespacedName(namespace: entry.meta.namespace, name: host)
        let prefix =
            "\(index.environment.clusterID)/networking.istio.io/ServiceEntry/\(entry.meta.namespace)/\(entry.meta.name)"
        if entry.endpoints.isEmpty, entry.selector == nil,
            entry.resolution == .dns || entry.resolution == .dnsRoundRobin
        {
            // The proxy looks the host up itself, when somebody connects.
            return [
                Workload(
                    uid: "\(prefix)/\(host)", name: entry.meta.name, namespace: entry.meta.namespace,
                    hostname: host,
                    network: index.network, trustDomain: index.environment.trustDomain,
                    canonicalName: entry.meta.name, canonicalRevision: "latest",
                    workloadName: entry.meta.name,
                    services: [key: entry.targets([:])], clusterID: index.environment.clusterID)
            ]
        }
        return entry.endpoints.map { endpoint in
            endpointWorkload(
                endpoint, uid: uid(of: endpoint, in: entry), entry.meta,
                services: [key: entry.targets(endpoint.ports)],
                index)
        }
    }

    private func workload(_ entry: WorkloadEntryManifest, _ index: ObjectIndex) -> Workload {
        let meta = entry.meta
        var workload = endpointWorkload(
            entry.endpoint, uid: uid(of: entry), meta,
            services: services(of: meta, labels: entry.endpoint.labels, ports: entry.endpoint.ports), index)
        for service in index.services[meta.namespace] ?? [] where service.type != .externalName {
            guard let selector = service.selector,
                WorkloadSelector(matchLabels: selector).matches(entry.endpoint.labels)
            else { continue }
            var ports: [UInt16: UInt16] = [:]
            for port in service.tcpPorts {
                switch port.target {
                case .number(let number): ports[port.port] = number
                case .name(let name): ports[port.port] = entry.endpoint.ports[name]
                }
            }
            workload.services[NamespacedName(namespace: meta.namespace, name: index.hostname(of: service))] =
                ports
        }
        workload.waypoint = index.waypoints.binding(meta, .workload).address
        return workload
    }

    private func endpointWorkload(
        _ endpoint: WorkloadEndpoint, uid: String, _ meta: ObjectMeta,
        services: [NamespacedName: [UInt16: UInt16]],
        _ index: ObjectIndex
    ) -> Workload {
        let parts = endpoint.locality.split(separator: "/").map(String.init)
        let hasNativeTunnel = endpoint.labels["networking.istio.io/tunnel"]?.contains("http") ?? false
        func label(_ keys: [String]) -> String? {
            keys.lazy.compactMap { endpoint.labels[$0] }.first { !$0.isEmpty }
        }
        return Workload(
            uid: uid, name: meta.name, namespace: meta.namespace,
            addresses: endpoint.ip.map { [$0.canonical] } ?? [],
            hostname: endpoint.ip == nil ? endpoint.address : "",
            network: endpoint.network.isEmpty ? index.network : endpoint.network,
            tunnelProtocol: hasNativeTunnel ? .hbone : .none, trustDomain: index.environment.trustDomain,
            serviceAccount: endpoint.serviceAccount,
            canonicalName: label(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
                ?? meta.name,
            canonicalRevision: label([
                "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version",
            ])
                ?? "latest",
            workloadName: meta.name, nativeTunnel: hasNativeTunnel, services: services,
            clusterID: index.environment.clusterID,
            locality: Locality(
                region: parts.first ?? "", zone: parts.count > 1 ? parts[1] : "",
                subzone: parts.count > 2 ? parts[2] : ""),
            capacity: endpoint.weight == 0 ? 1 : endpoint.weight)
    }

    /// An endpoint of several hosts is one workload that serves them all.
    private func merged(_ workloads: [Workload]) -> [Workload] {
        var byUID: [String: Workload] = [:]
        for workload in workloads {
            byUID[workload.uid, default: workload].services.merge(workload.services) { first, _ in first }
        }
        return byUID.values.sorted { $0.uid < $1.uid }
    }
}

extension ServiceEntryManifest {
    var tcpPorts: [Port] { ports.filter { $0.protocolName.uppercased() != "UDP" } }

    /// Service port to the endpoint's own, which it may rename.
    func targets(_ own: [String: UInt16]) -> [UInt16: UInt16] {
        Dictionary(tcpPorts.map { ($0.number, own[$0.name] ?? $0.targetPort ?? $0.number) }) { first, _ in
            first
        }
    }

    /// Whether an address is made up for its hosts, so that connections to them can be told apart.
    fileprivate var wantsAddress: Bool {
        addresses.isEmpty && resolution != .none
            && meta.labels["networking.istio.io/enable-autoallocate-ip"] != "false"
    }
}

/// Addresses of 240.240.0.0/16 for hosts that have none. An address follows from the host's name, so that it stays when
/// others come and go; only hosts that meet in one place have to step aside.
private struct AutomaticAddresses {
    private var addresses: [String: IPAddress] = [:]

    init(_ wanting: [ServiceEntryManifest], _ all: [ServiceEntryManifest]) {
        var taken = Set(all.flatMap(\.addresses).filter { $0.length == 32 }.compactMap(\.address.ipv4))
        var keys: Set<String> = []
        for entry in wanting {
            for host in entry.hosts where !host.hasPrefix("*") || entry.resolution == .dynamicDNS {
                keys.insert(Self.key(entry, host))
            }
        }
        for key in keys.sorted() {
            // FNV-1a: the same on every run.
            var place = key.utf8.reduce(UInt32(0x811c_9dc5)) { ($0 ^ UInt32($1)) &* 0x0100_0193 } % 65_534
            for _ in 0..<65_534 {
                let address = 0xf0f0_0001 + place
                if taken.insert(address).inserted {
                    addresses[key] = IPAddress(ipv4: address)
                    break
                }
                place = (place + 1) % 65_534
            }
        }
    }

    subscript(entry: ServiceEntryManifest, host: String) -> IPAddress? { addresses[Self.key(entry, host)] }

    private static func key(_ entry: ServiceEntryManifest, _ host: String) -> String {
        "\(entry.meta.namespace)/\(host)"
    }
}
