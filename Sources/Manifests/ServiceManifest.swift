import Address
import Documents

/// `v1` Service.
public struct ServiceManifest: Hashable, Sendable {
    public enum TargetPort: Hashable, Sendable {
        case number(UInt16)
        /// Looked up among the ports of each pod.
        case name(String)
    }

    public struct Port: Hashable, Sendable {
        public var name: String
        public var port: UInt16
        public var target: TargetPort
        public var transport: TransportProtocol
        public var appProtocol: String?

        public init(
            name: String = "", port: UInt16, target: TargetPort, transport: TransportProtocol = .tcp,
            appProtocol: String? = nil
        ) {
            self.name = name
            self.port = port
            self.target = target
            self.transport = transport
            self.appProtocol = appProtocol
        }
    }

    public enum ServiceType: String, CaseIterable, Sendable {
        case clusterIP = "ClusterIP"
        case nodePort = "NodePort"
        case loadBalancer = "LoadBalancer"
        case externalName = "ExternalName"
    }

    public enum Family: String, CaseIterable, Sendable {
        case ipv4 = "IPv4"
        case ipv6 = "IPv6"
    }

    private enum InternalTrafficPolicy: String, CaseIterable {
        case cluster = "Cluster"
        case local = "Local"
    }

    public var meta: ObjectMeta
    public var type: ServiceType
    /// Empty for a headless service, and before an address was given.
    public var clusterIPs: [IPAddress]
    public var isHeadless: Bool
    /// Nil selects no pods: its endpoints come from EndpointSlices.
    public var selector: [String: String]?
    public var ports: [Port]
    public var publishesNotReadyAddresses: Bool
    /// `internalTrafficPolicy: Local`.
    public var staysOnNode: Bool
    public var trafficDistribution: String?
    public var families: [Family]

    public init(
        meta: ObjectMeta, type: ServiceType = .clusterIP, clusterIPs: [IPAddress] = [],
        isHeadless: Bool = false,
        selector: [String: String]? = nil, ports: [Port] = [], publishesNotReadyAddresses: Bool = false,
        staysOnNode: Bool = false, trafficDistribution: String? = nil, families: [Family] = []
    ) {
        self.meta = meta
        self.type = type
        self.clusterIPs = clusterIPs
        self.isHeadless = isHeadless
        self.selector = selector
        self.ports = ports
        self.publishesNotReadyAddresses = publishesNotReadyAddresses
        self.staysOnNode = staysOnNode
        self.trafficDistribution = trafficDistribution
        self.families = families
    }

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let spec = top.required("spec")?.fields() else { return nil }
        self.init(meta: meta)
        type = spec["type"]?.choice(of: ServiceType.self) ?? .clusterIP
        decodeAddresses(spec)
        let labels = spec["selector"].map(Labels.decode)
        selector = labels.flatMap { $0.isEmpty ? nil : $0 }
        ports = spec["ports"]?.list(Port.init) ?? []
        if let cursor = spec["ports"] { checkPorts(cursor) }
        publishesNotReadyAddresses = spec["publishNotReadyAddresses"]?.boolean() ?? false
        staysOnNode = spec["internalTrafficPolicy"]?.choice(of: InternalTrafficPolicy.self) == .local
        trafficDistribution = spec["trafficDistribution"]?.string()
        families = spec["ipFamilies"]?.list { $0.choice(of: Family.self) } ?? []
        spec.ignore(
            "allocateLoadBalancerNodePorts", "externalIPs", "externalName", "externalTrafficPolicy",
            "healthCheckNodePort", "ipFamilyPolicy", "loadBalancerClass", "loadBalancerIP",
            "loadBalancerSourceRanges")
        if let affinity = spec["sessionAffinity"], affinity.string() == "ClientIP" {
            affinity.warn("connections of one client are not kept on one endpoint")
        }
        spec.ignore("sessionAffinityConfig")
        spec.close(as: .warning)
    }

    private mutating func decodeAddresses(_ spec: Fields) {
        var texts: [Cursor] = []
        if let first = spec["clusterIP"] { texts.append(first) }
        texts += spec["clusterIPs"]?.elements() ?? []
        for cursor in texts {
            guard let text = cursor.string(), !text.isEmpty else { continue }
            if text == "None" {
                isHeadless = true
            } else if let address = IPAddress(text), !address.isUnspecified, !address.isMulticast,
                !address.isLoopback
            {
                if !clusterIPs.contains(address.canonical) { clusterIPs.append(address.canonical) }
            } else {
                cursor.error("\(quoted(text)) is neither an address for a service nor None")
            }
        }
        if isHeadless, !clusterIPs.isEmpty {
            spec.cursor.error("clusterIP says None and an address at once")
        }
    }

    private func checkPorts(_ cursor: Cursor) {
        var seen: Set<String> = []
        var numbers: Set<String> = []
        for (port, element) in zip(ports, cursor.elements()) {
            if ports.count > 1, port.name.isEmpty {
                element.error("each of several ports needs a name")
            } else if !seen.insert(port.name).inserted {
                element.error("the port name \(quoted(port.name)) is already taken")
            }
            if !numbers.insert("\(port.port)/\(port.transport.rawValue)").inserted {
                element.error("port \(port.port)/\(port.transport.rawValue) is already in this service")
            }
        }
    }
}

extension ServiceManifest.Port {
    fileprivate init?(_ cursor: Cursor) {
        guard let fields = cursor.fields(), let port = fields.required("port")?.port() else { return nil }
        self.init(port: port, target: .number(port))
        if let cursor = fields["name"], let text = cursor.string() {
            if let problem = Names.problem(label: text) { cursor.error(problem) } else { name = text }
        }
        if let cursor = fields["targetPort"] {
            if case .string(let text) = cursor.node.content {
                if let problem = Names.problem(portName: text) { cursor.error(problem) }
                target = .name(text)
            } else if let number = cursor.port() {
                target = .number(number)
            }
        }
        transport = fields["protocol"]?.choice(of: TransportProtocol.self) ?? .tcp
        appProtocol = fields["appProtocol"]?.nonEmptyString()
        fields.ignore("nodePort")
        fields.close(as: .warning)
    }
}
