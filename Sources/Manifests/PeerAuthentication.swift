import Documents

/// `security.istio.io` PeerAuthentication: whether plaintext is taken.
public struct PeerAuthentication: Hashable, Sendable {
    public enum Mode: String, CaseIterable, Sendable {
        /// As the level above says.
        case unset = "UNSET"
        /// In an ambient mesh the same as `permissive`: enrolled workloads use the tunnel all the same.
        case disable = "DISABLE"
        case permissive = "PERMISSIVE"
        case strict = "STRICT"
    }

    public var meta: ObjectMeta
    /// Nil, or without labels: for the whole namespace, and in the root namespace for the mesh.
    public var selector: WorkloadSelector?
    public var mode: Mode
    /// By the workload's own port.
    public var portModes: [UInt16: Mode]

    public init(
        meta: ObjectMeta, selector: WorkloadSelector? = nil, mode: Mode = .unset,
        portModes: [UInt16: Mode] = [:]
    ) {
        self.meta = meta
        self.selector = selector
        self.mode = mode
        self.portModes = portModes
    }

    /// For chosen workloads rather than a namespace or the mesh.
    public var isForWorkloads: Bool { !(selector?.matchLabels.isEmpty ?? true) }

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        self.init(meta: meta)
        // `spec: {}` and no spec at all both mean: as above.
        guard let spec = top["spec"]?.fields() else { return }
        selector = spec["selector"].flatMap(WorkloadSelector.init)
        if let mtls = spec["mtls"] { mode = Self.mode(mtls) }
        if let ports = spec["portLevelMtls"] {
            let entries = ports.entries()
            if entries.isEmpty { ports.error("at least one port has to be named") }
            if !isForWorkloads {
                ports.error("modes of single ports need a selector: they are for chosen workloads")
            }
            for (key, position, value) in entries {
                guard let port = UInt16(key), port > 0 else {
                    ports.problems.report(
                        Problem(
                            at: position, path: ports.path, "\(quoted(key)) is no port between 1 and 65535"))
                    continue
                }
                portModes[port] = Self.mode(value)
            }
        }
        spec.close()
    }

    private static func mode(_ cursor: Cursor) -> Mode {
        guard cursor.node.content != .null, let fields = cursor.fields() else { return .unset }
        defer { fields.close() }
        return fields["mode"]?.choice(of: Mode.self) ?? .unset
    }
}
