import Address
import Documents

/// `v1` Pod, as far as the mesh looks at it.
public struct PodManifest: Hashable, Sendable {
    /// The phases in which a pod has ended for good count as `isTerminal`.
    public enum Phase: String, CaseIterable, Sendable {
        case pending = "Pending"
        case running = "Running"
        case succeeded = "Succeeded"
        case failed = "Failed"
        case unknown = "Unknown"
    }

    public struct ContainerPort: Hashable, Sendable {
        public var name: String
        public var port: UInt16
        public var transport: TransportProtocol

        public init(name: String, port: UInt16, transport: TransportProtocol = .tcp) {
            self.name = name
            self.port = port
            self.transport = transport
        }
    }

    public var meta: ObjectMeta
    public var nodeName: String
    public var serviceAccountName: String
    public var usesHostNetwork: Bool
    /// Of its containers and restartable init containers: what a named target port is resolved by.
    public var ports: [ContainerPort]
    public var phase: Phase
    public var addresses: [IPAddress]
    /// The condition `Ready`; nil when the pod has no conditions, as pods of a directory have none.
    public var ready: Bool?

    public init(
        meta: ObjectMeta, nodeName: String = "", serviceAccountName: String = "default",
        usesHostNetwork: Bool = false,
        ports: [ContainerPort] = [], phase: Phase = .running, addresses: [IPAddress] = [], ready: Bool? = nil
    ) {
        self.meta = meta
        self.nodeName = nodeName
        self.serviceAccountName = serviceAccountName
        self.usesHostNetwork = usesHostNetwork
        self.ports = ports
        self.phase = phase
        self.addresses = addresses
        self.ready = ready
    }

    public var isTerminal: Bool { phase == .succeeded || phase == .failed }

    init(_ top: Fields, _ meta: ObjectMeta) {
        self.init(meta: meta)
        if let spec = top["spec"]?.fields() { decode(spec: spec) }
        if let status = top["status"]?.fields() { decode(status: status) }
        if meta.annotations["sidecar.istio.io/inject"] == "false",
            meta.labels["istio.io/dataplane-mode"] != "none"
        {
            top.cursor.warn(
                "the annotation sidecar.istio.io/inject concerns sidecars only; the label istio.io/dataplane-mode=none keeps a pod out of the mesh"
            )
        }
    }

    private mutating func decode(spec: Fields) {
        if let cursor = spec["nodeName"], let name = cursor.string() {
            if name.isEmpty || Names.problem(subdomain: name) == nil {
                nodeName = name
            } else {
                cursor.error("\(quoted(name)) cannot be a node's name")
            }
        }
        // `serviceAccount` is the old name of the field, which the API server still keeps in step.
        for field in ["serviceAccount", "serviceAccountName"] {
            guard let cursor = spec[field], let name = cursor.string(), !name.isEmpty else { continue }
            if let problem = Names.problem(subdomain: name) {
                cursor.error(problem)
            } else {
                serviceAccountName = name
            }
        }
        usesHostNetwork = spec["hostNetwork"]?.boolean() ?? false
        ports += spec["containers"]?.elements().flatMap(Self.ports) ?? []
        for container in spec["initContainers"]?.elements() ?? []
        where container.node["restartPolicy"]?.content == .string("Always") {
            ports += Self.ports(of: container)
        }
        spec.ignore(
            "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy",
            "enableServiceLinks", "ephemeralContainers", "hostAliases", "hostIPC", "hostPID", "hostUsers",
            "hostname",
            "hostnameOverride", "imagePullSecrets", "nodeSelector", "os", "overhead", "preemptionPolicy",
            "priority",
            "priorityClassName", "readinessGates", "resourceClaims", "resources", "restartPolicy",
            "runtimeClassName",
            "schedulerName", "schedulingGates", "securityContext", "setHostnameAsFQDN",
            "shareProcessNamespace",
            "subdomain", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints",
            "volumes")
        spec.close(as: .warning)
    }

    private static func ports(of container: Cursor) -> [ContainerPort] {
        guard let ports = container.fields()?["ports"] else { return [] }
        return ports.list { cursor in
            guard let fields = cursor.fields(), let port = fields.required("containerPort")?.port() else {
                return nil
            }
            var name = ""
            if let cursor = fields["name"], let text = cursor.string() {
                if let problem = Names.problem(portName: text) { cursor.error(problem) } else { name = text }
            }
            return ContainerPort(
                name: name, port: port,
                transport: fields["protocol"]?.choice(of: TransportProtocol.self) ?? .tcp)
        }
    }

    private mutating func decode(status: Fields) {
        phase = status["phase"]?.choice(of: Phase.self) ?? .running
        var texts: [Cursor] = []
        if let first = status["podIP"] { texts.append(first) }
        for entry in status["podIPs"]?.elements() ?? [] {
            if let address = entry.fields()?["ip"] { texts.append(address) }
        }
        for cursor in texts {
            guard let text = cursor.string(), !text.isEmpty else { continue }
            guard let address = IPAddress(text), !address.isUnspecified, !address.isMulticast else {
                cursor.error("\(quoted(text)) is no address of a pod")
                continue
            }
            if !addresses.contains(address.canonical) { addresses.append(address.canonical) }
        }
        for condition in status["conditions"]?.elements() ?? [] {
            guard let fields = condition.fields() else { continue }
            // Any condition shows that somebody keeps the status; then a missing `Ready` is a pod not ready yet.
            if ready == nil { ready = false }
            if fields["type"]?.string() == "Ready" { ready = fields["status"]?.string() == "True" }
        }
    }
}
