import Address
import Documents

/// `gateway.networking.k8s.io` Gateway, as far as it makes a waypoint.
public struct GatewayManifest: Hashable, Sendable {
    public enum AddressKind: String, CaseIterable, Sendable {
        case ip = "IPAddress"
        case hostname = "Hostname"
        case named = "NamedAddress"
    }

    public struct GatewayAddress: Hashable, Sendable {
        public var kind: AddressKind
        public var value: String
    }

    /// From which namespaces something may attach to a listener.
    public enum AllowedNamespaces: Hashable, Sendable {
        case same, all
        case selected(LabelSelector)
    }

    public struct Listener: Hashable, Sendable {
        public var name: String
        public var port: UInt16
        /// `HBONE` makes the listener a waypoint's.
        public var protocolName: String
        public var allowed: AllowedNamespaces
    }

    private enum From: String, CaseIterable {
        case same = "Same"
        case all = "All"
        case selector = "Selector"
        case none = "None"
    }

    public var meta: ObjectMeta
    public var className: String
    public var listeners: [Listener]
    /// Of the status, or else what the specification asks for: in a directory nobody writes a status.
    public var addresses: [GatewayAddress]

    init?(_ top: Fields, _ meta: ObjectMeta) {
        self.meta = meta
        let status = top["status"]?.fields()
        guard let spec = top.required("spec")?.fields(),
            let className = spec.required("gatewayClassName")?.nonEmptyString()
        else { return nil }
        self.className = className
        listeners = spec["listeners"]?.list(Self.listener) ?? []
        let reported = status?["addresses"]?.list(Self.address) ?? []
        let wanted = spec["addresses"]?.list(Self.address) ?? []
        addresses = reported.isEmpty ? wanted : reported
        spec.ignore("infrastructure", "backendTLS", "allowedListeners", "tls", "defaultScope")
        spec.close(as: .warning)
    }

    private static func address(_ cursor: Cursor) -> GatewayAddress? {
        guard let fields = cursor.fields() else { return nil }
        let kind = fields["type"]?.choice(of: AddressKind.self) ?? .ip
        guard let valueCursor = fields.required("value"), let value = valueCursor.nonEmptyString() else {
            return nil
        }
        if kind == .ip, IPAddress(value) == nil {
            valueCursor.error("\(quoted(value)) is no IP address; for a name the type is Hostname")
            return nil
        }
        return GatewayAddress(kind: kind, value: value)
    }

    private static func listener(_ cursor: Cursor) -> Listener? {
        guard let fields = cursor.fields(), let name = fields.required("name")?.nonEmptyString(),
            let port = fields.required("port")?.port(),
            let protocolName = fields.required("protocol")?.nonEmptyString()
        else { return nil }
        var allowed = AllowedNamespaces.same
        if let namespaces = fields["allowedRoutes"]?.fields()?["namespaces"]?.fields() {
            switch namespaces["from"]?.choice(of: From.self) ?? .same {
            case .same, .none: break
            case .all: allowed = .all
            case .selector:
                guard let selector = namespaces.required("selector").flatMap(LabelSelector.init) else {
                    break
                }
                allowed = .selected(selector)
            }
        }
        return Listener(name: name, port: port, protocolName: protocolName, allowed: allowed)
    }
}

/// `gateway.networking.k8s.io` GatewayClass: who is in charge of its gateways.
public struct GatewayClassManifest: Hashable, Sendable {
    public var meta: ObjectMeta
    public var controllerName: String

    init?(_ top: Fields, _ meta: ObjectMeta) {
        top.ignore("status")
        guard let name = top.required("spec")?.fields()?.required("controllerName")?.nonEmptyString() else {
            return nil
        }
        self.meta = meta
        controllerName = name
    }
}
