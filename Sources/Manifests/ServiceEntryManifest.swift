import Address
import Documents

/// `networking.istio.io` ServiceEntry: services that no Service object declares.
public struct ServiceEntryManifest: Hashable, Sendable {
    public enum Location: String, CaseIterable, Sendable {
        case external = "MESH_EXTERNAL"
        case `internal` = "MESH_INTERNAL"
    }

    public enum Resolution: String, CaseIterable, Sendable {
        case none = "NONE"
        case `static` = "STATIC"
        case dns = "DNS"
        case dnsRoundRobin = "DNS_ROUND_ROBIN"
        case dynamicDNS = "DYNAMIC_DNS"
    }

    public struct Port: Hashable, Sendable {
        public var number: UInt16
        public var name: String
        public var protocolName: String
        public var targetPort: UInt16?
    }

    public var meta: ObjectMeta
    public var hosts: [String]
    public var addresses: [Prefix]
    public var ports: [Port]
    public var location: Location
    public var resolution: Resolution
    public var endpoints: [WorkloadEndpoint]
    /// Pods and WorkloadEntries of its namespace that are its endpoints.
    public var selector: [String: String]?
    public var subjectAltNames: [String]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields() else { return nil }
        self.meta = meta
        hosts = spec.required("hosts")?.list(Self.host) ?? []
        addresses =
            spec["addresses"]?.list { cursor in
                guard let text = cursor.string() else { return nil }
                guard let prefix = Prefix(text) else {
                    cursor.error("\(quoted(text)) is neither an IP address nor a range such as 10.0.0.0/8")
                    return nil
                }
                return prefix
            } ?? []
        ports = spec["ports"]?.list(Self.port) ?? []
        location = spec["location"]?.choice(of: Location.self) ?? .external
        resolution = spec["resolution"]?.choice(of: Resolution.self) ?? .none
        endpoints = spec["endpoints"]?.list { WorkloadEndpoint($0) } ?? []
        if let cursor = spec["workloadSelector"], let fields = cursor.fields() {
            selector = fields["labels"].map(Labels.decode) ?? [:]
            if spec["endpoints"] != nil {
                cursor.error("endpoints and a workloadSelector cannot be combined")
            }
            fields.close()
        }
        subjectAltNames = spec["subjectAltNames"]?.strings() ?? []
        if let exports = spec["exportTo"] {
            exports.warn("exportTo is for sidecars: every workload of the mesh sees the hosts")
        }
        check(spec)
        spec.close()
    }

    private func check(_ spec: Fields) {
        if hosts.isEmpty { spec.cursor.error("at least one host is needed") }
        if Set(ports.map(\.number)).count < ports.count {
            spec["ports"]?.error("every port number may be there once")
        }
        if Set(ports.map(\.name)).count < ports.count {
            spec["ports"]?.error("every port name may be there once")
        }
        switch resolution {
        case .none:
            if !endpoints.isEmpty { spec["endpoints"]?.error("with resolution NONE there are no endpoints") }
        case .static:
            for (endpoint, cursor) in zip(endpoints, spec["endpoints"]?.elements() ?? [])
            where endpoint.ip == nil {
                cursor.error("with resolution STATIC an endpoint's address is an IP address")
            }
        case .dns, .dnsRoundRobin:
            if endpoints.isEmpty, hosts.contains(where: { $0.hasPrefix("*") }) {
                spec["hosts"]?.error(
                    "a wildcard cannot be looked up in the DNS; give endpoints, or use another resolution")
            }
            if resolution == .dnsRoundRobin, endpoints.count > 1 {
                spec["endpoints"]?.error("DNS_ROUND_ROBIN has one endpoint at most")
            }
        case .dynamicDNS: break
        }
    }

    private static func host(_ cursor: Cursor) -> String? {
        guard let text = cursor.nonEmptyString() else { return nil }
        let name = text.hasPrefix("*.") ? String(text.dropFirst(2)) : text
        guard Names.problem(subdomain: name) == nil else {
            cursor.error("\(quoted(text)) is no host name; a wildcard stands before the first dot")
            return nil
        }
        return text
    }

    private static func port(_ cursor: Cursor) -> Port? {
        guard let fields = cursor.fields(), let number = fields.required("number")?.port(),
            let name = fields.required("name")?.nonEmptyString()
        else { return nil }
        defer { fields.close() }
        return Port(
            number: number, name: name, protocolName: fields["protocol"]?.string() ?? "",
            targetPort: fields["targetPort"]?.port())
    }
}

/// `networking.istio.io` WorkloadEntry: a workload that is no pod.
public struct WorkloadEntryManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var endpoint: WorkloadEndpoint

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let cursor = top.required("spec"), var endpoint = WorkloadEndpoint(cursor) else { return nil }
        // It is selected by the labels of either place; Istio joins them.
        endpoint.labels.merge(meta.labels) { inner, _ in inner }
        self.meta = meta
        self.endpoint = endpoint
    }
}

/// An endpoint as ServiceEntry and WorkloadEntry write it.
public struct WorkloadEndpoint: Hashable, Sendable {
    /// An address, or a name to be looked up.
    public var address: String
    public var ip: IPAddress? { IPAddress(address) }
    /// By the name of the service's port.
    public var ports: [String: UInt16]
    public var labels: [String: String]
    public var network: String
    /// `region/zone/subzone`.
    public var locality: String
    public var weight: UInt32
    public var serviceAccount: String

    init?(_ cursor: Cursor) {
        guard let fields = cursor.fields() else { return nil }
        let addressCursor = fields["address"]
        address = addressCursor?.string() ?? ""
        if address.isEmpty { cursor.error("an address is needed") }
        if let addressCursor, IPAddress(address) == nil, Names.problem(subdomain: address) != nil {
            addressCursor.error("\(quoted(address)) is neither an IP address nor a host name")
        }
        ports = [:]
        for (name, _, value) in fields["ports"]?.entries() ?? [] { ports[name] = value.port() }
        labels = fields["labels"].map(Labels.decode) ?? [:]
        network = fields["network"]?.string() ?? ""
        locality = fields["locality"]?.string() ?? ""
        weight =
            fields["weight"]?.integer(in: 0...Int64(UInt32.max)).map { UInt32(truncatingIfNeeded: $0) } ?? 1
        serviceAccount = fields["serviceAccount"]?.string() ?? ""
        fields.close()
    }
}
